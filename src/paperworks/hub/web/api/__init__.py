"""The JSON API, `/api/v1`. `router.py` has the resources, `answers.py` how every answer leaves, `models.py` the shapes around the views."""
