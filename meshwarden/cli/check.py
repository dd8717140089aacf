"""`meshwarden check`."""


def check() -> None:
    """X"""
