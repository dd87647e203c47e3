"""The pages that steer: groups, topics, dead letters, a form that produces. Drawn on the server; htmx refreshes them."""
