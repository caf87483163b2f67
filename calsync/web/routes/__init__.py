"""The routes for programs: the JSON API, the feeds, and what operators ask for."""
