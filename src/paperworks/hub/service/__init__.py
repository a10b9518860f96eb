"""The verbs of the hub, one file a family: plain functions whose first argument is an opened `Hub`."""
