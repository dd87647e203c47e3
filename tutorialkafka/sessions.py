"""Sessions in the database; a cookie that no database can look up is none."""

from django.contrib.sessions.backends import db


class SessionStore(db.SessionStore):
    def __init__(self, session_key: str | None = None) -> None:
        """A cookie may escape any character, NUL too, which PostgreSQL does not even compare: Django would answer 500."""
        super().__init__(None if session_key and "\0" in session_key else session_key)
