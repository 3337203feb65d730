"""What charts make, looked at."""


def by_name(objects):
    return {(each["kind"], each["metadata"]["name"]): each for each in objects}


def dry_run(cluster, objects):
    """Every object is taken by the API server as it is: no unknown field, nothing missing."""
    for each in objects:
        path = cluster.path(each, collection=True)
        cluster.request("POST", f"{path}?dryRun=All&fieldValidation=Strict", each)
