"""boto3's view of minikv: each function below is one promise; its name is printed with the outcome."""

import datetime
import email.utils
import hashlib
import os
import pathlib
import time
import traceback
import urllib.request

import boto3
import botocore
import botocore.config
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

BUCKET = os.environ["BUCKET"]
DATA = pathlib.Path(os.environ["DATA"])
WORK = pathlib.Path(os.environ["WORK"])
s3 = boto3.client("s3", endpoint_url=os.environ["ENDPOINT"])
MIB = 1024 * 1024


def code_of(call, **arguments) -> str:
    try:
        call(**arguments)
    except ClientError as error:
        return error.response["Error"]["Code"]
    return "no error"


def create_bucket_and_see_it_listed():
    s3.create_bucket(Bucket=BUCKET)
    assert BUCKET in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]
    assert s3.head_bucket(Bucket=BUCKET)["ResponseMetadata"]["HTTPHeaders"]["x-amz-bucket-region"] == "us-east-1"


def files_come_back_as_they_were():
    for name in ["empty", "five", "inline-64k", "over-64k", "5MiB", "100MiB"]:
        s3.upload_file(str(DATA / name), BUCKET, f"files/{name}")
        s3.download_file(BUCKET, f"files/{name}", str(WORK / name))
        assert (WORK / name).read_bytes() == (DATA / name).read_bytes(), name


def every_checksum_is_checked_stored_and_returned():
    for algorithm in ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"]:
        try:
            put = s3.put_object(Bucket=BUCKET, Key=f"sum/{algorithm}", Body=b"hello", ChecksumAlgorithm=algorithm)
        except botocore.exceptions.MissingDependencyException:
            continue  # CRC32C and CRC64NVME need the optional awscrt
        head = s3.head_object(Bucket=BUCKET, Key=f"sum/{algorithm}", ChecksumMode="ENABLED")
        assert head[f"Checksum{algorithm}"] == put[f"Checksum{algorithm}"]


def a_wrong_checksum_is_refused_and_leaves_nothing():
    assert code_of(s3.put_object, Bucket=BUCKET, Key="wrong", Body=b"hello", ChecksumSHA256="A" * 43 + "=") == "BadDigest"
    assert code_of(s3.put_object, Bucket=BUCKET, Key="wrong", Body=b"hello", ContentMD5="A" * 22 + "==") == "BadDigest"
    assert code_of(s3.head_object, Bucket=BUCKET, Key="wrong") == "404"


def etag_is_the_md5():
    put = s3.put_object(Bucket=BUCKET, Key="etag", Body=b"hello")
    assert put["ETag"] == '"' + hashlib.md5(b"hello").hexdigest() + '"'


def multipart_etag_is_md5_of_md5s():
    first, second = os.urandom(5 * MIB), os.urandom(17)
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key="multi", Metadata={"a": "b"})["UploadId"]
    parts = []
    for number, body in enumerate([first, second], 1):
        part = s3.upload_part(Bucket=BUCKET, Key="multi", UploadId=upload, PartNumber=number, Body=body)
        parts.append({"PartNumber": number, "ETag": part["ETag"], "ChecksumCRC32": part["ChecksumCRC32"]})
    assert [p["PartNumber"] for p in s3.list_parts(Bucket=BUCKET, Key="multi", UploadId=upload)["Parts"]] == [1, 2]
    assert [u["UploadId"] for u in s3.list_multipart_uploads(Bucket=BUCKET)["Uploads"]] == [upload]
    done = s3.complete_multipart_upload(Bucket=BUCKET, Key="multi", UploadId=upload, MultipartUpload={"Parts": parts})
    expected = hashlib.md5(hashlib.md5(first).digest() + hashlib.md5(second).digest()).hexdigest()
    assert done["ETag"] == f'"{expected}-2"', done["ETag"]
    got = s3.get_object(Bucket=BUCKET, Key="multi")
    assert got["Body"].read() == first + second and got["Metadata"] == {"a": "b"}
    ranged = s3.get_object(Bucket=BUCKET, Key="multi", Range=f"bytes={5 * MIB - 3}-{5 * MIB + 3}")["Body"].read()
    assert ranged == first[-3:] + second[:4]


def an_aborted_upload_is_gone():
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key="aborted")["UploadId"]
    s3.upload_part(Bucket=BUCKET, Key="aborted", UploadId=upload, PartNumber=1, Body=b"x")
    s3.abort_multipart_upload(Bucket=BUCKET, Key="aborted", UploadId=upload)
    assert code_of(s3.list_parts, Bucket=BUCKET, Key="aborted", UploadId=upload) == "NoSuchUpload"


def a_part_that_is_too_small_is_refused():
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key="small")["UploadId"]
    parts = []
    for number in [1, 2]:
        part = s3.upload_part(Bucket=BUCKET, Key="small", UploadId=upload, PartNumber=number, Body=b"x")
        parts.append({"PartNumber": number, "ETag": part["ETag"]})
    assert code_of(s3.complete_multipart_upload, Bucket=BUCKET, Key="small", UploadId=upload, MultipartUpload={"Parts": parts}) == "EntityTooSmall"
    s3.abort_multipart_upload(Bucket=BUCKET, Key="small", UploadId=upload)


def upload_part_copy_takes_a_range():
    source = os.urandom(6 * MIB)
    s3.put_object(Bucket=BUCKET, Key="source", Body=source)
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key="assembled")["UploadId"]
    copied = s3.upload_part_copy(Bucket=BUCKET, Key="assembled", UploadId=upload, PartNumber=1, CopySource={"Bucket": BUCKET, "Key": "source"}, CopySourceRange=f"bytes=0-{5 * MIB - 1}")
    tail = s3.upload_part(Bucket=BUCKET, Key="assembled", UploadId=upload, PartNumber=2, Body=b"tail")
    parts = [{"PartNumber": 1, "ETag": copied["CopyPartResult"]["ETag"]}, {"PartNumber": 2, "ETag": tail["ETag"]}]
    s3.complete_multipart_upload(Bucket=BUCKET, Key="assembled", UploadId=upload, MultipartUpload={"Parts": parts})
    assert s3.get_object(Bucket=BUCKET, Key="assembled")["Body"].read() == source[: 5 * MIB] + b"tail"


def metadata_and_content_headers_come_back():
    s3.put_object(Bucket=BUCKET, Key="meta", Body=b"x", Metadata={"Colour": "blue", "city": "Köln".encode("ascii", "replace").decode()}, ContentType="text/x-test", CacheControl="no-cache", ContentDisposition="inline", ContentEncoding="gzip", ContentLanguage="de")
    head = s3.head_object(Bucket=BUCKET, Key="meta")
    assert head["Metadata"]["colour"] == "blue"
    assert (head["ContentType"], head["CacheControl"], head["ContentDisposition"], head["ContentEncoding"], head["ContentLanguage"]) == ("text/x-test", "no-cache", "inline", "gzip", "de")


def copy_replaces_metadata_when_asked():
    s3.put_object(Bucket=BUCKET, Key="self", Body=b"x", Metadata={"a": "1"})
    assert code_of(s3.copy_object, Bucket=BUCKET, Key="self", CopySource={"Bucket": BUCKET, "Key": "self"}) == "InvalidRequest"
    s3.copy_object(Bucket=BUCKET, Key="self", CopySource={"Bucket": BUCKET, "Key": "self"}, Metadata={"a": "2"}, MetadataDirective="REPLACE")
    assert s3.head_object(Bucket=BUCKET, Key="self")["Metadata"] == {"a": "2"}


def any_utf8_key_works():
    keys = ["a/b", "a/b/c", "a//b", "./x", "../x", "space in key", "plus+", "percent%25", "日本語", "emoji-🦀", "x" * 1024, "end/", "<&>\"'"]
    for key in keys:
        s3.put_object(Bucket=BUCKET, Key=key, Body=key.encode())
    for key in keys:
        assert s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() == key.encode(), key
    listed = [item["Key"] for item in s3.list_objects_v2(Bucket=BUCKET)["Contents"]]
    assert set(keys) <= set(listed) and listed == sorted(listed, key=lambda k: k.encode())
    assert code_of(s3.put_object, Bucket=BUCKET, Key="x" * 1025, Body=b"") == "KeyTooLongError"


def listing_pages_and_rolls_up():
    for number in range(25):
        s3.put_object(Bucket=BUCKET, Key=f"list/{number % 5}/{number:02}", Body=b"")
    pages = list(s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix="list/", PaginationConfig={"PageSize": 7}))
    assert [len(page["Contents"]) for page in pages] == [7, 7, 7, 4]
    assert [p["IsTruncated"] for p in pages] == [True, True, True, False]
    rolled = s3.list_objects_v2(Bucket=BUCKET, Prefix="list/", Delimiter="/", MaxKeys=3)
    assert [p["Prefix"] for p in rolled["CommonPrefixes"]] == ["list/0/", "list/1/", "list/2/"] and rolled["IsTruncated"]
    rest = s3.list_objects_v2(Bucket=BUCKET, Prefix="list/", Delimiter="/", ContinuationToken=rolled["NextContinuationToken"])
    assert [p["Prefix"] for p in rest["CommonPrefixes"]] == ["list/3/", "list/4/"]
    old = s3.list_objects(Bucket=BUCKET, Prefix="list/", MaxKeys=10)
    assert len(old["Contents"]) == 10 and old["IsTruncated"]
    versions = s3.list_object_versions(Bucket=BUCKET, Prefix="list/")["Versions"]
    assert len(versions) == 25 and all(v["VersionId"] == "null" and v["IsLatest"] for v in versions)


def ranges_and_overrides():
    s3.put_object(Bucket=BUCKET, Key="range", Body=b"0123456789")
    get = lambda **a: s3.get_object(Bucket=BUCKET, Key="range", **a)
    assert get(Range="bytes=2-4")["Body"].read() == b"234"
    assert get(Range="bytes=-3")["Body"].read() == b"789"
    assert get(Range="bytes=8-")["ContentRange"] == "bytes 8-9/10"
    assert code_of(get, Range="bytes=10-") == "InvalidRange"
    assert get(ResponseContentType="a/b")["ContentType"] == "a/b"


def conditions_decide():
    etag = s3.put_object(Bucket=BUCKET, Key="cond", Body=b"1")["ETag"]
    get = lambda **a: s3.get_object(Bucket=BUCKET, Key="cond", **a)
    put = lambda **a: s3.put_object(Bucket=BUCKET, Key="cond", Body=b"2", **a)
    assert code_of(get, IfNoneMatch=etag) == "304" and code_of(get, IfMatch='"no"') == "PreconditionFailed"
    assert code_of(put, IfNoneMatch="*") == "PreconditionFailed" and code_of(put, IfMatch='"no"') == "PreconditionFailed"
    put(IfMatch=etag)
    assert code_of(s3.put_object, Bucket=BUCKET, Key="cond-none", Body=b"", IfMatch=etag) == "NoSuchKey"


def presigned_urls_work():
    # For us-east-1 boto3 still presigns with the retired SigV2 unless it is told otherwise.
    s3 = boto3.client("s3", endpoint_url=os.environ["ENDPOINT"], config=botocore.config.Config(signature_version="s3v4"))
    url = s3.generate_presigned_url("put_object", Params={"Bucket": BUCKET, "Key": "signed"}, ExpiresIn=60)
    urllib.request.urlopen(urllib.request.Request(url, data=b"by url", method="PUT")).read()
    url = s3.generate_presigned_url("get_object", Params={"Bucket": BUCKET, "Key": "signed"}, ExpiresIn=60)
    assert urllib.request.urlopen(url).read() == b"by url"


def a_browser_form_uploads_what_its_policy_allows():
    import requests

    def post(form, body):
        return requests.post(form["url"], data=form["fields"], files={"file": ("cat.png", body)})

    conditions = [["content-length-range", 1, 3 * MIB], ["starts-with", "$Content-Type", "image/"], {"success_action_status": "201"}]
    fields = {"Content-Type": "image/png", "success_action_status": "201"}
    # For us-east-1 boto3 still signs forms with the retired SigV2 unless it is told otherwise, as `minikv client-config boto3` does.
    signed = boto3.client("s3", endpoint_url=os.environ["ENDPOINT"], config=botocore.config.Config(signature_version="s3v4"))
    form = signed.generate_presigned_post(BUCKET, "form/${filename}", Fields=fields, Conditions=conditions, ExpiresIn=60)
    picture = os.urandom(2 * MIB)
    answer = post(form, picture)
    assert answer.status_code == 201 and "<Key>form/cat.png</Key>" in answer.text, answer.text
    got = s3.get_object(Bucket=BUCKET, Key="form/cat.png")
    assert got["Body"].read() == picture and got["ContentType"] == "image/png"
    for change, body, code in [({}, b"", "EntityTooSmall"), ({}, os.urandom(4 * MIB), "EntityTooLarge"), ({"Content-Type": "text/html"}, b"x", "AccessDenied"), ({"x-amz-meta-a": "b"}, b"x", "AccessDenied")]:
        answer = post({"url": form["url"], "fields": form["fields"] | change}, body)
        assert f"<Code>{code}</Code>" in answer.text, (code, answer.status_code, answer.text)
    late = signed.generate_presigned_post(BUCKET, "form/late", ExpiresIn=-1)
    assert post(late, b"x").status_code == 403


def a_stream_of_unknown_length_is_sent_in_chunks_with_a_trailer():
    # Over https botocore sends STREAMING-UNSIGNED-PAYLOAD-TRAILER; urllib3 then uses chunked transfer encoding.
    class Stream:
        def __init__(self, left):
            self.left = left

        def read(self, size=-1):
            size = self.left if size < 0 else min(size, self.left)
            self.left -= size
            return b"s" * size

    s3.upload_fileobj(Stream(20 * MIB), BUCKET, "stream")
    assert s3.get_object(Bucket=BUCKET, Key="stream")["Body"].read() == b"s" * (20 * MIB)


def every_call_can_be_presigned():
    def do(method, call, body=None, **arguments):
        url = signed.generate_presigned_url(call, Params={"Bucket": BUCKET, **arguments}, ExpiresIn=60)
        return urllib.request.urlopen(urllib.request.Request(url, method=method, data=body)).read()

    signed = boto3.client("s3", endpoint_url=os.environ["ENDPOINT"], config=botocore.config.Config(signature_version="s3v4"))
    do("PUT", "put_object", b"pre", Key="pre")
    assert do("GET", "get_object", Key="pre", ResponseContentType="x/y") == b"pre"
    assert do("HEAD", "head_object", Key="pre") == b""
    assert b"<Key>pre</Key>" in do("GET", "list_objects_v2", Prefix="pre")
    assert b"UploadId" in do("POST", "create_multipart_upload", Key="pre-multi")
    do("DELETE", "delete_object", Key="pre")
    assert code_of(s3.head_object, Bucket=BUCKET, Key="pre") == "404"
    for upload in s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads", []):
        s3.abort_multipart_upload(Bucket=BUCKET, Key=upload["Key"], UploadId=upload["UploadId"])


def delete_objects_reports_each():
    for key in ["d1", "d2"]:
        s3.put_object(Bucket=BUCKET, Key=key, Body=b"")
    answer = s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": "d1"}, {"Key": "d2"}, {"Key": "never-there"}]})
    assert sorted(item["Key"] for item in answer["Deleted"]) == ["d1", "d2", "never-there"]


def versions_and_delete_markers_come_and_go():
    bucket = BUCKET + "-versions"
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="k", Body=b"before")
    assert "Status" not in s3.get_bucket_versioning(Bucket=bucket)
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
    one = s3.put_object(Bucket=bucket, Key="k", Body=b"one")["VersionId"]
    two = s3.put_object(Bucket=bucket, Key="k", Body=b"two")["VersionId"]
    for version, body in [("null", b"before"), (one, b"one"), (two, b"two")]:
        assert s3.get_object(Bucket=bucket, Key="k", VersionId=version)["Body"].read() == body
    gone = s3.delete_object(Bucket=bucket, Key="k")
    assert gone["DeleteMarker"] is True
    assert code_of(s3.get_object, Bucket=bucket, Key="k") == "NoSuchKey"
    assert code_of(s3.get_object, Bucket=bucket, Key="k", VersionId=gone["VersionId"]) == "MethodNotAllowed"
    listed = s3.list_object_versions(Bucket=bucket)
    assert [version["VersionId"] for version in listed["Versions"]] == [two, one, "null"]
    assert [marker["VersionId"] for marker in listed["DeleteMarkers"]] == [gone["VersionId"]]
    undone = s3.delete_object(Bucket=bucket, Key="k", VersionId=gone["VersionId"])
    assert undone["DeleteMarker"] is True
    copied = s3.copy_object(Bucket=bucket, Key="k", CopySource={"Bucket": bucket, "Key": "k", "VersionId": one})
    assert copied["CopySourceVersionId"] == one
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})
    assert s3.put_object(Bucket=bucket, Key="k", Body=b"null again")["VersionId"] == "null"
    assert code_of(s3.delete_object, Bucket=bucket, Key="k", IfMatch='"other"') == "PreconditionFailed"
    # Page by page, each deleted before the next is listed.
    boto3.resource("s3", endpoint_url=os.environ["ENDPOINT"]).Bucket(bucket).object_versions.page_size(2).delete()
    s3.delete_bucket(Bucket=bucket)


def objects_and_buckets_are_tagged():
    tags = [{"Key": "team", "Value": "storage"}, {"Key": "größe", "Value": "1 & 2".replace("&", "+")}]
    s3.put_object(Bucket=BUCKET, Key="tagged", Body=b"x", Tagging="a=1&b=2")
    assert s3.get_object_tagging(Bucket=BUCKET, Key="tagged")["TagSet"] == [{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}]
    s3.put_object_tagging(Bucket=BUCKET, Key="tagged", Tagging={"TagSet": tags})
    assert s3.get_object_tagging(Bucket=BUCKET, Key="tagged")["TagSet"] == tags
    assert s3.get_object(Bucket=BUCKET, Key="tagged")["TagCount"] == 2
    s3.copy_object(Bucket=BUCKET, Key="tagged-copy", CopySource={"Bucket": BUCKET, "Key": "tagged"})
    assert s3.get_object_tagging(Bucket=BUCKET, Key="tagged-copy")["TagSet"] == tags
    s3.delete_object_tagging(Bucket=BUCKET, Key="tagged")
    assert s3.get_object_tagging(Bucket=BUCKET, Key="tagged")["TagSet"] == []
    eleven = [{"Key": str(n), "Value": ""} for n in range(11)]
    assert code_of(s3.put_object_tagging, Bucket=BUCKET, Key="tagged", Tagging={"TagSet": eleven}) == "BadRequest"
    s3.put_bucket_tagging(Bucket=BUCKET, Tagging={"TagSet": tags})
    assert s3.get_bucket_tagging(Bucket=BUCKET)["TagSet"] == tags
    s3.delete_bucket_tagging(Bucket=BUCKET)
    assert code_of(s3.get_bucket_tagging, Bucket=BUCKET) == "NoSuchTagSet"


def attributes_tell_parts_and_checksums():
    first, second = os.urandom(5 * MIB), os.urandom(17)
    for kind in ["COMPOSITE", "FULL_OBJECT"]:
        upload = s3.create_multipart_upload(Bucket=BUCKET, Key="attr", ChecksumAlgorithm="CRC32", ChecksumType=kind)["UploadId"]
        parts = []
        for number, body in enumerate([first, second], 1):
            part = s3.upload_part(Bucket=BUCKET, Key="attr", UploadId=upload, PartNumber=number, Body=body, ChecksumAlgorithm="CRC32")
            parts.append({"PartNumber": number, "ETag": part["ETag"], "ChecksumCRC32": part["ChecksumCRC32"]})
        listed = s3.list_parts(Bucket=BUCKET, Key="attr", UploadId=upload)
        assert (listed["ChecksumAlgorithm"], listed["ChecksumType"]) == ("CRC32", kind)
        assert [part["ChecksumCRC32"] for part in listed["Parts"]] == [part["ChecksumCRC32"] for part in parts]
        done = s3.complete_multipart_upload(Bucket=BUCKET, Key="attr", UploadId=upload, MultipartUpload={"Parts": parts})
        assert done["ChecksumType"] == kind and done["ChecksumCRC32"].endswith("-2") == (kind == "COMPOSITE")
        told = s3.get_object_attributes(
            Bucket=BUCKET, Key="attr", ObjectAttributes=["ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"])
        assert told["ETag"] == done["ETag"].strip('"') and told["ObjectSize"] == len(first + second)
        assert told["Checksum"] == {"ChecksumCRC32": done["ChecksumCRC32"], "ChecksumType": kind}
        assert told["ObjectParts"]["TotalPartsCount"] == 2
        assert [part["Size"] for part in told["ObjectParts"]["Parts"]] == [5 * MIB, 17]
        part = s3.get_object(Bucket=BUCKET, Key="attr", PartNumber=2, ChecksumMode="ENABLED")
        assert part["Body"].read() == second and part["PartsCount"] == 2
        assert part["ChecksumCRC32"] == parts[1]["ChecksumCRC32"]


def encrypted_objects_come_back_and_say_how():
    body = os.urandom(3 * MIB + 7)
    for asked, told in [
        ({"ServerSideEncryption": "AES256"}, {"ServerSideEncryption": "AES256"}),
        ({"ServerSideEncryption": "aws:kms"}, {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "minikv"}),
    ]:
        put = s3.put_object(Bucket=BUCKET, Key="sealed", Body=body, **asked)
        assert (put["ETag"].strip('"') == hashlib.md5(body).hexdigest()) == (asked["ServerSideEncryption"] == "AES256")
        got = s3.get_object(Bucket=BUCKET, Key="sealed")
        assert got["Body"].read() == body
        assert all(answer[name] == value for answer in [put, got] for name, value in told.items())
        part = s3.get_object(Bucket=BUCKET, Key="sealed", Range="bytes=65530-131080")["Body"].read()
        assert part == body[65530:131081]
        big = os.urandom(11 * MIB)
        (WORK / "big").write_bytes(big)
        s3.upload_file(str(WORK / "big"), BUCKET, "sealed-parts", ExtraArgs=asked,
                       Config=TransferConfig(multipart_threshold=5 * MIB, multipart_chunksize=5 * MIB))
        s3.download_file(BUCKET, "sealed-parts", str(WORK / "big-back"))
        assert (WORK / "big-back").read_bytes() == big
        s3.copy({"Bucket": BUCKET, "Key": "sealed-parts"}, BUCKET, "sealed-copy", ExtraArgs=asked)
        assert s3.get_object(Bucket=BUCKET, Key="sealed-copy")["Body"].read() == big
    assert code_of(s3.put_object, Bucket=BUCKET, Key="x", Body=b"x", ServerSideEncryption="aws:kms", SSEKMSKeyId="nobody") == "KMS.NotFoundException"


def a_bucket_encrypts_by_default():
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}, "BucketKeyEnabled": False}
    s3.put_bucket_encryption(Bucket=BUCKET, ServerSideEncryptionConfiguration={"Rules": [rule]})
    assert s3.get_bucket_encryption(Bucket=BUCKET)["ServerSideEncryptionConfiguration"]["Rules"] == [rule]
    assert s3.put_object(Bucket=BUCKET, Key="default", Body=b"x")["ServerSideEncryption"] == "AES256"
    s3.delete_bucket_encryption(Bucket=BUCKET)
    assert "ServerSideEncryption" not in s3.put_object(Bucket=BUCKET, Key="default", Body=b"x")


def a_key_of_the_client_opens_what_it_sealed_over_https_only():
    key, other = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": b"k" * 32}, {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": b"o" * 32}
    if os.environ["SCHEME"] == "http":
        assert code_of(s3.put_object, Bucket=BUCKET, Key="own", Body=b"x", **key) == "InvalidRequest"
        return
    s3.put_object(Bucket=BUCKET, Key="own", Body=b"mine", **key)
    assert s3.get_object(Bucket=BUCKET, Key="own", **key)["Body"].read() == b"mine"
    assert code_of(s3.get_object, Bucket=BUCKET, Key="own") == "InvalidRequest"
    assert code_of(s3.get_object, Bucket=BUCKET, Key="own", **other) == "AccessDenied"


LOCKED = BUCKET + "-locked"


def ahead(seconds):
    return (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=seconds)).replace(microsecond=0)


def put_locked(key, **arguments) -> dict:
    return {"Bucket": LOCKED, "Key": key, "VersionId": s3.put_object(Bucket=LOCKED, Key=key, Body=b"kept", **arguments)["VersionId"]}


def a_bucket_with_object_lock_keeps_its_versions():
    s3.create_bucket(Bucket=LOCKED, ObjectLockEnabledForBucket=True)
    assert s3.get_bucket_versioning(Bucket=LOCKED)["Status"] == "Enabled"
    assert code_of(s3.put_bucket_versioning, Bucket=LOCKED, VersioningConfiguration={"Status": "Suspended"}) == "InvalidBucketState"
    configuration = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}}}
    s3.put_object_lock_configuration(Bucket=LOCKED, ObjectLockConfiguration=configuration)
    assert s3.get_object_lock_configuration(Bucket=LOCKED)["ObjectLockConfiguration"] == configuration
    kept = put_locked("default")
    head = s3.head_object(**kept)
    assert head["ObjectLockMode"] == "GOVERNANCE"
    assert head["ObjectLockRetainUntilDate"] - head["LastModified"] >= datetime.timedelta(days=1)
    assert code_of(s3.delete_object, **kept) == "AccessDenied"
    assert s3.delete_object(Bucket=LOCKED, Key="default")["DeleteMarker"]
    s3.delete_object(**kept, BypassGovernanceRetention=True)
    s3.put_object_lock_configuration(Bucket=LOCKED, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled"})
    assert "Rule" not in s3.get_object_lock_configuration(Bucket=LOCKED)["ObjectLockConfiguration"]


def object_lock_is_turned_on_later_where_versions_are_kept():
    bucket, configuration = BUCKET + "-later", {"ObjectLockEnabled": "Enabled"}
    s3.create_bucket(Bucket=bucket)
    assert code_of(s3.get_object_lock_configuration, Bucket=bucket) == "ObjectLockConfigurationNotFoundError"
    assert code_of(s3.put_object_lock_configuration, Bucket=bucket, ObjectLockConfiguration=configuration) == "InvalidBucketState"
    hold = {"Bucket": bucket, "Key": "k", "LegalHold": {"Status": "ON"}}
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    assert code_of(s3.put_object_legal_hold, **hold) == "InvalidRequest"
    assert code_of(s3.put_object, Bucket=bucket, Key="k", Body=b"x", ObjectLockLegalHoldStatus="ON") == "InvalidRequest"
    assert code_of(s3.delete_object, Bucket=bucket, Key="k", VersionId="null", BypassGovernanceRetention=True) == "InvalidArgument"
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    s3.put_object_lock_configuration(Bucket=bucket, ObjectLockConfiguration=configuration)
    s3.put_object_legal_hold(**hold)
    assert code_of(s3.delete_object, Bucket=bucket, Key="k", VersionId="null") == "AccessDenied"
    s3.put_object_legal_hold(**{**hold, "LegalHold": {"Status": "OFF"}})
    s3.delete_object(Bucket=bucket, Key="k", VersionId="null")
    s3.delete_bucket(Bucket=bucket)


def retentions_are_set_lengthened_and_bypassed():
    kept = put_locked("governed", ObjectLockMode="GOVERNANCE", ObjectLockRetainUntilDate=ahead(600))
    longer, shorter = {"Mode": "GOVERNANCE", "RetainUntilDate": ahead(900)}, {"Mode": "GOVERNANCE", "RetainUntilDate": ahead(300)}
    s3.put_object_retention(**kept, Retention=longer)
    assert s3.get_object_retention(**kept)["Retention"] == longer
    assert code_of(s3.put_object_retention, **kept, Retention=shorter) == "AccessDenied"
    assert code_of(s3.put_object_retention, **kept, Retention={"Mode": "COMPLIANCE", "RetainUntilDate": ahead(900)}) == "AccessDenied"
    assert code_of(s3.put_object_retention, **kept, Retention={"Mode": "GOVERNANCE", "RetainUntilDate": ahead(-60)}) == "InvalidArgument"
    assert code_of(s3.put_object_retention, **kept, Retention={"Mode": "governance", "RetainUntilDate": ahead(900)}) == "MalformedXML"
    s3.put_object_retention(**kept, Retention=shorter, BypassGovernanceRetention=True)
    s3.put_object_retention(**kept, Retention={}, BypassGovernanceRetention=True)
    assert code_of(s3.get_object_retention, **kept) == "NoSuchObjectLockConfiguration"
    s3.delete_object(**kept)


def compliance_ends_at_its_date_and_for_nobody_before():
    kept = put_locked("complied", ObjectLockMode="COMPLIANCE", ObjectLockRetainUntilDate=ahead(4))
    for shortened in [{}, {"Mode": "GOVERNANCE", "RetainUntilDate": ahead(900)}]:
        assert code_of(s3.put_object_retention, **kept, Retention=shortened, BypassGovernanceRetention=True) == "AccessDenied"
    assert code_of(s3.delete_object, **kept, BypassGovernanceRetention=True) == "AccessDenied"
    batch = s3.delete_objects(Bucket=LOCKED, Delete={"Objects": [{"Key": kept["Key"], "VersionId": kept["VersionId"]}]}, BypassGovernanceRetention=True)
    assert [error["Code"] for error in batch["Errors"]] == ["AccessDenied"]
    time.sleep(5)
    s3.delete_object(**kept)
    assert code_of(s3.head_object, **kept) == "404"


def a_legal_hold_holds_until_it_is_turned_off():
    kept = put_locked("held", ObjectLockLegalHoldStatus="ON")
    assert s3.get_object_legal_hold(**kept)["LegalHold"]["Status"] == "ON"
    assert s3.head_object(**kept)["ObjectLockLegalHoldStatus"] == "ON"
    assert code_of(s3.delete_object, **kept, BypassGovernanceRetention=True) == "AccessDenied"
    s3.put_object_legal_hold(**kept, LegalHold={"Status": "OFF"})
    s3.delete_object(**kept)


def uploads_and_copies_are_locked_as_they_ask():
    lock = {"ObjectLockMode": "GOVERNANCE", "ObjectLockRetainUntilDate": ahead(600)}
    upload = s3.create_multipart_upload(Bucket=LOCKED, Key="parts", **lock)["UploadId"]
    part = s3.upload_part(Bucket=LOCKED, Key="parts", UploadId=upload, PartNumber=1, Body=b"part")
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"], "ChecksumCRC32": part["ChecksumCRC32"]}]}
    version = s3.complete_multipart_upload(Bucket=LOCKED, Key="parts", UploadId=upload, MultipartUpload=parts)["VersionId"]
    copy = s3.copy_object(Bucket=LOCKED, Key="copy", CopySource={"Bucket": LOCKED, "Key": "parts"}, **lock)["VersionId"]
    s3.upload_file(str(DATA / "100MiB"), LOCKED, "file", ExtraArgs=lock)
    file = s3.head_object(Bucket=LOCKED, Key="file")["VersionId"]
    for key, version in [("parts", version), ("copy", copy), ("file", file)]:
        kept = {"Bucket": LOCKED, "Key": key, "VersionId": version}
        assert s3.head_object(**kept)["ObjectLockRetainUntilDate"] == lock["ObjectLockRetainUntilDate"], key
        assert code_of(s3.delete_object, **kept) == "AccessDenied", key
        s3.delete_object(**kept, BypassGovernanceRetention=True)


def a_locked_bucket_is_emptied_once_nothing_keeps_it():
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=LOCKED):
        for version in page.get("Versions", []) + page.get("DeleteMarkers", []):
            s3.delete_object(Bucket=LOCKED, Key=version["Key"], VersionId=version["VersionId"])
    s3.delete_bucket(Bucket=LOCKED)


def the_acl_that_is_there_may_be_set_and_no_other():
    acl = s3.get_bucket_acl(Bucket=BUCKET)
    s3.put_bucket_acl(Bucket=BUCKET, ACL="private")
    s3.put_bucket_acl(Bucket=BUCKET, AccessControlPolicy={"Owner": acl["Owner"], "Grants": acl["Grants"]})
    everybody = {"Grantee": {"Type": "Group", "URI": "http://acs.amazonaws.com/groups/global/AllUsers"}, "Permission": "READ"}
    policy = {"Owner": acl["Owner"], "Grants": acl["Grants"] + [everybody]}
    assert code_of(s3.put_bucket_acl, Bucket=BUCKET, AccessControlPolicy=policy) == "AccessControlListNotSupported"
    assert code_of(s3.put_bucket_acl, Bucket=BUCKET, ACL="public-read") == "NotImplemented"
    assert s3.get_bucket_acl(Bucket=BUCKET)["Grants"] == acl["Grants"]
    blocked = {name: True for name in ["BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"]}
    s3.put_public_access_block(Bucket=BUCKET, PublicAccessBlockConfiguration=blocked)
    assert s3.get_public_access_block(Bucket=BUCKET)["PublicAccessBlockConfiguration"] == blocked
    s3.delete_public_access_block(Bucket=BUCKET)
    assert code_of(s3.put_bucket_policy, Bucket=BUCKET, Policy="{}") == "NotImplemented"
    s3.delete_bucket_policy(Bucket=BUCKET)


def lifecycle_rules_come_back_and_are_told():
    days = datetime.timedelta(days=1)
    date = datetime.datetime(2031, 5, 1, tzinfo=datetime.timezone.utc)
    rules = [
        {"ID": "all of it", "Filter": {}, "Status": "Enabled", "Expiration": {"Days": 300},
         "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 20}},
        {"ID": "tag", "Filter": {"Tag": {"Key": "colour", "Value": "red"}}, "Status": "Enabled", "Expiration": {"Days": 30}},
        {"ID": "date", "Filter": {"Prefix": "dated/"}, "Status": "Disabled", "Expiration": {"Date": date}},
        {"ID": "and", "Filter": {"And": {"Prefix": "x/", "Tags": [{"Key": "a", "Value": "b"}], "ObjectSizeGreaterThan": 5, "ObjectSizeLessThan": 50}},
         "Status": "Enabled", "NoncurrentVersionExpiration": {"NoncurrentDays": 3, "NewerNoncurrentVersions": 2}},
        {"ID": "markers", "Filter": {"Prefix": ""}, "Status": "Enabled", "Expiration": {"ExpiredObjectDeleteMarker": True}},
    ]
    put = s3.put_bucket_lifecycle_configuration(Bucket=BUCKET, LifecycleConfiguration={"Rules": rules})
    assert put["TransitionDefaultMinimumObjectSize"] == "all_storage_classes_128K"
    got = s3.get_bucket_lifecycle_configuration(Bucket=BUCKET)
    assert got["Rules"] == rules and got["TransitionDefaultMinimumObjectSize"] == "all_storage_classes_128K"

    def midnight(days_from_now):
        today = datetime.datetime.now(datetime.timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
        return today + (days_from_now + 1) * days

    def told(answer, days_from_now, rule):
        date = email.utils.format_datetime(midnight(days_from_now), usegmt=True)
        assert answer["Expiration"] == f'expiry-date="{date}", rule-id="{rule}"', answer["Expiration"]

    told(s3.put_object(Bucket=BUCKET, Key="aging", Body=b"v"), 300, "all%20of%20it")
    told(s3.head_object(Bucket=BUCKET, Key="aging"), 300, "all%20of%20it")
    told(s3.put_object(Bucket=BUCKET, Key="red", Body=b"v", Tagging="colour=red"), 30, "tag")
    told(s3.get_object(Bucket=BUCKET, Key="red"), 30, "tag")
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key="aging")
    assert upload["AbortDate"] == midnight(20) and upload["AbortRuleId"] == "all%20of%20it"
    listed = s3.list_parts(Bucket=BUCKET, Key="aging", UploadId=upload["UploadId"])
    assert listed["AbortDate"] == midnight(20)
    s3.abort_multipart_upload(Bucket=BUCKET, Key="aging", UploadId=upload["UploadId"])

    refused = lambda rule: code_of(s3.put_bucket_lifecycle_configuration, Bucket=BUCKET, LifecycleConfiguration={"Rules": [{"Status": "Enabled", "Filter": {}, **rule}]})
    assert refused({"Expiration": {"Days": 0}}) == "InvalidArgument"
    assert refused({}) == "InvalidRequest"
    assert refused({"Transitions": [{"Days": 30, "StorageClass": "GLACIER"}]}) == "NotImplemented"
    old = [{"ID": "old form", "Prefix": "logs/", "Status": "Enabled", "Expiration": {"Days": 1}}]
    s3.put_bucket_lifecycle(Bucket=BUCKET, LifecycleConfiguration={"Rules": old})
    assert s3.get_bucket_lifecycle_configuration(Bucket=BUCKET)["Rules"] == old
    s3.delete_bucket_lifecycle(Bucket=BUCKET)
    assert code_of(s3.get_bucket_lifecycle_configuration, Bucket=BUCKET) == "NoSuchLifecycleConfiguration"
    assert "Expiration" not in s3.head_object(Bucket=BUCKET, Key="aging")


def the_bucket_can_be_emptied_and_removed():
    for upload in s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads", []):
        s3.abort_multipart_upload(Bucket=BUCKET, Key=upload["Key"], UploadId=upload["UploadId"])
    assert code_of(s3.delete_bucket, Bucket=BUCKET) == "BucketNotEmpty"
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
        s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": item["Key"]} for item in page.get("Contents", [])]})
    s3.delete_bucket(Bucket=BUCKET)
    assert code_of(s3.head_bucket, Bucket=BUCKET) == "404"


def unconfigured_gets_answer_like_aws():
    s3.create_bucket(Bucket=BUCKET)
    expect = {
        "get_bucket_policy": "NoSuchBucketPolicy",
        "get_bucket_cors": "NoSuchCORSConfiguration",
        "get_bucket_website": "NoSuchWebsiteConfiguration",
        "get_bucket_lifecycle_configuration": "NoSuchLifecycleConfiguration",
        "get_bucket_replication": "ReplicationConfigurationNotFoundError",
        "get_bucket_encryption": "ServerSideEncryptionConfigurationNotFoundError",
        "get_object_lock_configuration": "ObjectLockConfigurationNotFoundError",
        "get_public_access_block": "NoSuchPublicAccessBlockConfiguration",
        "get_bucket_tagging": "NoSuchTagSet",
    }
    for call, code in expect.items():
        assert code_of(getattr(s3, call), Bucket=BUCKET) == code, call
    assert s3.get_bucket_request_payment(Bucket=BUCKET)["Payer"] == "BucketOwner"
    for call in ["get_bucket_acl", "get_bucket_logging", "get_bucket_notification_configuration", "get_bucket_accelerate_configuration", "get_bucket_versioning"]:
        getattr(s3, call)(Bucket=BUCKET)
    s3.delete_bucket(Bucket=BUCKET)


PROMISES = [
    create_bucket_and_see_it_listed, files_come_back_as_they_were, every_checksum_is_checked_stored_and_returned,
    a_wrong_checksum_is_refused_and_leaves_nothing, etag_is_the_md5, multipart_etag_is_md5_of_md5s, an_aborted_upload_is_gone,
    a_part_that_is_too_small_is_refused, upload_part_copy_takes_a_range, metadata_and_content_headers_come_back,
    copy_replaces_metadata_when_asked, any_utf8_key_works, listing_pages_and_rolls_up, ranges_and_overrides, conditions_decide,
    presigned_urls_work, every_call_can_be_presigned, a_browser_form_uploads_what_its_policy_allows,
    a_stream_of_unknown_length_is_sent_in_chunks_with_a_trailer, delete_objects_reports_each,
    versions_and_delete_markers_come_and_go, objects_and_buckets_are_tagged, attributes_tell_parts_and_checksums,
    encrypted_objects_come_back_and_say_how, a_bucket_encrypts_by_default,
    a_key_of_the_client_opens_what_it_sealed_over_https_only, a_bucket_with_object_lock_keeps_its_versions,
    object_lock_is_turned_on_later_where_versions_are_kept, retentions_are_set_lengthened_and_bypassed,
    compliance_ends_at_its_date_and_for_nobody_before, a_legal_hold_holds_until_it_is_turned_off,
    uploads_and_copies_are_locked_as_they_ask, a_locked_bucket_is_emptied_once_nothing_keeps_it,
    the_acl_that_is_there_may_be_set_and_no_other, lifecycle_rules_come_back_and_are_told, the_bucket_can_be_emptied_and_removed,
    unconfigured_gets_answer_like_aws,
]

with open(os.environ["RESULTS"], "a") as results:
    print("boto3", boto3.__version__)
    for promise in PROMISES:
        name = promise.__name__.replace("_", " ")
        try:
            promise()
            outcome, reason = "ok", ""
        except Exception as error:  # a client's own exceptions are what we want to see
            outcome, reason = "FAIL", " ".join(f"{type(error).__name__}: {error} at {traceback.extract_tb(error.__traceback__)[1 if len(traceback.extract_tb(error.__traceback__)) > 1 else 0].line}".split())[:300]
        print(f"  {outcome:5} boto3/{os.environ['SCHEME']} {name}{': ' + reason if reason else ''}")
        results.write("\t".join(["boto3", os.environ["SCHEME"], name, outcome, reason]) + "\n")
