"""Stores for the tests: a folder, Lithops' local storage, and an S3-compatible server on the loopback interface."""

from __future__ import annotations

import os
import sys
import uuid

import pytest

from paperworks.papers.squash.serverless.store import BucketStore, FolderStore


@pytest.fixture(scope="session")
def s3_server():
    """The address of an S3-compatible server on this machine."""
    moto_server = pytest.importorskip("moto.server", reason="needs moto[s3,server]")
    pytest.importorskip("boto3", reason="needs boto3")
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="session")
def s3_config(s3_server):
    """A configuration of Lithops: functions on this machine, objects on the S3 server."""
    pytest.importorskip("lithops", reason="needs lithops")
    return {
        "lithops": {"backend": "localhost", "storage": "minio", "monitoring_interval": 0.1, "log_level": "WARNING"},
        "localhost": {"runtime": sys.executable},
        "minio": {
            "endpoint": s3_server,
            "access_key_id": "test",
            "secret_access_key": "test",
            "storage_bucket": "lithops-jobs",
        },
    }


@pytest.fixture
def s3_bucket(s3_config):
    """A fresh bucket -> (lithops.Storage, its name)."""
    import lithops

    storage = lithops.Storage(config=s3_config)
    bucket = f"index-{uuid.uuid4().hex[:12]}"
    storage.create_bucket(bucket)
    return storage, bucket


@pytest.fixture(params=["folder", "localhost", "s3"])
def store(request, tmp_path):
    """Each kind of store, empty."""
    if request.param == "folder":
        yield FolderStore(tmp_path / "store")
        return
    if request.param == "s3":
        storage, bucket = request.getfixturevalue("s3_bucket")
        yield BucketStore(storage, bucket, "some/prefix")
        return
    lithops = pytest.importorskip("lithops", reason="needs lithops")
    storage = lithops.Storage(backend="localhost", config={"lithops": {"storage": "localhost"}})
    made = BucketStore(storage, f"paperworks-test-{os.getpid()}-{uuid.uuid4().hex[:8]}")
    yield made
    for key in made.keys(""):
        made.delete(key)
