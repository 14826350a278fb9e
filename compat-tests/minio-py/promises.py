"""minio-py's view of minikv: each function below is one promise; its name is printed with the outcome."""

import datetime
import io
import os
import pathlib
import urllib.request

import minio
from minio.commonconfig import CopySource
from minio.datatypes import PostPolicy
from minio.deleteobjects import DeleteObject
from minio.error import S3Error

BUCKET = os.environ["BUCKET"]
DATA = pathlib.Path(os.environ["DATA"])
WORK = pathlib.Path(os.environ["WORK"])
MIB = 1024 * 1024
scheme, host = os.environ["ENDPOINT"].split("://")
client = minio.Minio(endpoint=host, access_key=os.environ["AWS_ACCESS_KEY_ID"], secret_key=os.environ["AWS_SECRET_ACCESS_KEY"], secure=scheme == "https")


def make_bucket_and_see_it_listed():
    client.make_bucket(bucket_name=BUCKET)
    assert client.bucket_exists(bucket_name=BUCKET)
    assert BUCKET in [bucket.name for bucket in client.list_buckets()]


def files_come_back_as_they_were():
    for name in ["empty", "five", "inline-64k", "over-64k", "5MiB", "100MiB"]:
        client.fput_object(bucket_name=BUCKET, object_name=f"files/{name}", file_path=str(DATA / name))
        client.fget_object(bucket_name=BUCKET, object_name=f"files/{name}", file_path=str(WORK / name))
        assert (WORK / name).read_bytes() == (DATA / name).read_bytes(), name


def a_stream_of_unknown_length_is_stored():
    client.put_object(bucket_name=BUCKET, object_name="stream", data=io.BytesIO(b"s" * (11 * MIB)), length=-1, part_size=5 * MIB)
    assert client.stat_object(bucket_name=BUCKET, object_name="stream").size == 11 * MIB


def metadata_comes_back():
    client.put_object(bucket_name=BUCKET, object_name="meta", data=io.BytesIO(b"x"), length=1, content_type="text/x-test", metadata={"colour": "blue"})
    stat = client.stat_object(bucket_name=BUCKET, object_name="meta")
    assert stat.content_type == "text/x-test" and stat.metadata["x-amz-meta-colour"] == "blue"


def awkward_names_are_listed():
    names = ["a b", "a+b", "ä/日本", "100%", "a&b=c"]
    for name in names:
        client.put_object(bucket_name=BUCKET, object_name=f"names/{name}", data=io.BytesIO(b"x"), length=1)
    listed = {found.object_name for found in client.list_objects(bucket_name=BUCKET, prefix="names/", recursive=True)}
    assert listed == {f"names/{name}" for name in names}, listed


def a_range_is_read():
    answer = client.get_object(bucket_name=BUCKET, object_name="files/5MiB", offset=100, length=50)
    assert answer.read() == (DATA / "5MiB").read_bytes()[100:150]
    answer.close()


def copy_and_compose():
    client.copy_object(bucket_name=BUCKET, object_name="copied", source=CopySource(bucket_name=BUCKET, object_name="files/5MiB"))
    assert client.stat_object(bucket_name=BUCKET, object_name="copied").size == 5 * MIB


def presigned_urls_work():
    url = client.presigned_put_object(bucket_name=BUCKET, object_name="pre", expires=datetime.timedelta(minutes=1))
    urllib.request.urlopen(urllib.request.Request(url, method="PUT", data=b"pre"))
    url = client.presigned_get_object(bucket_name=BUCKET, object_name="pre", expires=datetime.timedelta(minutes=1))
    assert urllib.request.urlopen(url).read() == b"pre"


def a_post_policy_uploads():
    import requests

    policy = PostPolicy(BUCKET, datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(minutes=1))
    policy.add_starts_with_condition("$key", "form/")
    policy.add_content_length_range_condition(1, 100)
    fields = client.presigned_post_policy(policy) | {"key": "form/a"}
    assert requests.post(f"{os.environ['ENDPOINT']}/{BUCKET}", data=fields, files={"file": b"hi"}).status_code == 204
    assert client.get_object(bucket_name=BUCKET, object_name="form/a").read() == b"hi"


def a_missing_key_is_told():
    try:
        client.stat_object(bucket_name=BUCKET, object_name="no/such")
        raise AssertionError("no error")
    except S3Error as error:
        assert error.code == "NoSuchKey", error.code


def the_bucket_can_be_emptied_and_removed():
    targets = [DeleteObject(found.object_name) for found in client.list_objects(bucket_name=BUCKET, recursive=True)]
    assert not list(client.remove_objects(bucket_name=BUCKET, delete_object_list=targets))
    client.remove_bucket(bucket_name=BUCKET)


with open(os.environ["RESULTS"], "a") as results:
    print("minio-py", minio.__version__)
    for promise in [
        make_bucket_and_see_it_listed, files_come_back_as_they_were, a_stream_of_unknown_length_is_stored, metadata_comes_back,
        awkward_names_are_listed, a_range_is_read, copy_and_compose, presigned_urls_work, a_post_policy_uploads, a_missing_key_is_told,
        the_bucket_can_be_emptied_and_removed,
    ]:
        name = promise.__name__.replace("_", " ")
        try:
            promise()
            outcome, reason = "ok", ""
        except Exception as error:  # a client's own exceptions are what we want to see
            outcome, reason = "FAIL", " ".join(f"{type(error).__name__}: {error}".split())[:300]
        print(f"  {outcome:5} minio-py/{os.environ['SCHEME']} {name}{': ' + reason if reason else ''}")
        results.write("\t".join(["minio-py", os.environ["SCHEME"], name, outcome, reason]) + "\n")
