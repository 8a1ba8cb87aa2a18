-- Answers which history of data this server holds. Through a script, since an INFO that is refused costs some a
-- connection.
return replication_id()
