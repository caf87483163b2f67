"""The JSON that goes into and out of the API, shared by the web service and the command line (pydantic)."""
