"""Maps: channels whose state is kept by key, and the changes of it in order."""
