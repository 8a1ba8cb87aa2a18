"""The heavy work of `examples.progress`, in a module of its own: all that the pool's processes have to import."""


def count_primes(numbers: range) -> int:
    return sum(number > 1 and all(number % divisor for divisor in range(2, int(number**0.5) + 1)) for number in numbers)
