"""The page that people keep open: what was stored, searched by keyset, followed live, shown, exported."""
