"""Sessions in the database; a cookie that no database can look up is none."""

from django.contrib.sessions.backends import db


class SessionStore(db.SessionStore):
    def _validate_session_key(self, key: str | None) -> bool:
        """Cookies may escape any character, NUL too, which PostgreSQL does not even compare: Django would answer 500."""
        return bool(super()._validate_session_key(key)) and "\0" not in (key or "")
