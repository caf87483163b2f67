"""The web service (FastAPI): the app in `app`, its routes in `routes`, the pages for people in `pages`."""
