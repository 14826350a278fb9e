// @aws-sdk/client-s3's view of minikv: each entry is one promise; its name is printed with the outcome.
const assert = require("node:assert");
const crypto = require("node:crypto");
const fs = require("node:fs");
const { Readable } = require("node:stream");
const sdk = require("@aws-sdk/client-s3");
const { Upload } = require("@aws-sdk/lib-storage");
const { getSignedUrl } = require("@aws-sdk/s3-request-presigner");

const { ENDPOINT, BUCKET, DATA, RESULTS, SCHEME } = process.env;
const Bucket = BUCKET;
const s3 = new sdk.S3({ endpoint: ENDPOINT, forcePathStyle: true });
const bytes = async (answer) => Buffer.from(await answer.Body.transformToByteArray());
const codeOf = (promise) => promise.then(() => "no error", (error) => error.name);

const promises = {
  "create a bucket": async () => {
    await s3.createBucket({ Bucket });
    assert((await s3.listBuckets({})).Buckets.some((b) => b.Name === Bucket));
  },
  "files come back as they were": async () => {
    for (const name of ["empty", "five", "inline-64k", "over-64k", "5MiB"]) {
      const body = fs.readFileSync(`${DATA}/${name}`);
      await s3.putObject({ Bucket, Key: `files/${name}`, Body: body });
      assert((await bytes(await s3.getObject({ Bucket, Key: `files/${name}` }))).equals(body), name);
    }
  },
  "a file stream is sent with a trailer": async () => {
    await s3.putObject({ Bucket, Key: "stream", Body: fs.createReadStream(`${DATA}/100MiB`) });
    const hash = crypto.createHash("sha256").update(await bytes(await s3.getObject({ Bucket, Key: "stream" }))).digest("hex");
    assert.equal(hash, crypto.createHash("sha256").update(fs.readFileSync(`${DATA}/100MiB`)).digest("hex"));
  },
  "a stream of unknown length goes up in parts": async () => {
    const Body = Readable.from((function* () { for (let i = 0; i < 12; i++) yield Buffer.alloc(1 << 20, i); })());
    await new Upload({ client: s3, params: { Bucket, Key: "unknown", Body } }).done();
    assert.equal((await s3.headObject({ Bucket, Key: "unknown" })).ContentLength, 12 << 20);
  },
  "every checksum": async () => {
    for (const ChecksumAlgorithm of ["CRC32", "CRC32C", "SHA1", "SHA256"]) {
      const put = await s3.putObject({ Bucket, Key: "sum", Body: "hello", ChecksumAlgorithm });
      const head = await s3.headObject({ Bucket, Key: "sum", ChecksumMode: "ENABLED" });
      assert(put[`Checksum${ChecksumAlgorithm}`] && put[`Checksum${ChecksumAlgorithm}`] === head[`Checksum${ChecksumAlgorithm}`]);
    }
  },
  "metadata and a copy that replaces it": async () => {
    await s3.putObject({ Bucket, Key: "meta", Body: "x", Metadata: { colour: "blue" } });
    await s3.copyObject({ Bucket, Key: "meta2", CopySource: `${Bucket}/meta`, Metadata: { colour: "red" }, MetadataDirective: "REPLACE" });
    assert.deepEqual((await s3.headObject({ Bucket, Key: "meta2" })).Metadata, { colour: "red" });
  },
  "listing pages": async () => {
    for (let i = 0; i < 7; i++) await s3.putObject({ Bucket, Key: `list/ä ${i}+`, Body: "" });
    const keys = [];
    for await (const page of sdk.paginateListObjectsV2({ client: s3, pageSize: 3 }, { Bucket, Prefix: "list/" })) keys.push(...page.Contents.map((c) => c.Key));
    assert.equal(keys.length, 7);
  },
  "conditions decide": async () => {
    assert.equal(await codeOf(s3.putObject({ Bucket, Key: "meta", Body: "y", IfNoneMatch: "*" })), "PreconditionFailed");
  },
  "presigned URLs work": async () => {
    const put = await getSignedUrl(s3, new sdk.PutObjectCommand({ Bucket, Key: "pre" }), { expiresIn: 60 });
    assert.equal((await fetch(put, { method: "PUT", body: "pre" })).status, 200);
    const get = await getSignedUrl(s3, new sdk.GetObjectCommand({ Bucket, Key: "pre" }), { expiresIn: 60 });
    assert.equal(await (await fetch(get)).text(), "pre");
  },
  "missing things are told by name": async () => {
    assert.equal(await codeOf(s3.getObject({ Bucket, Key: "no/such" })), "NoSuchKey");
    assert.equal(await codeOf(s3.listObjectsV2({ Bucket: "no-such-bucket-here" })), "NoSuchBucket");
  },
  "the bucket can be emptied and removed": async () => {
    const { Contents } = await s3.listObjectsV2({ Bucket });
    await s3.deleteObjects({ Bucket, Delete: { Objects: Contents.map(({ Key }) => ({ Key })) } });
    await s3.deleteBucket({ Bucket });
  },
};

(async () => {
  console.log("@aws-sdk/client-s3", require("@aws-sdk/client-s3/package.json").version);
  for (const [name, promise] of Object.entries(promises)) {
    let outcome = "ok", reason = "";
    try { await promise(); } catch (error) { outcome = "FAIL"; reason = `${error.name}: ${error.message}`.replace(/\s+/g, " ").slice(0, 300); }
    console.log(`  ${outcome.padEnd(5)} aws-sdk-js/${SCHEME} ${name}${reason && ": " + reason}`);
    fs.appendFileSync(RESULTS, ["aws-sdk-js", SCHEME, name, outcome, reason].join("\t") + "\n");
  }
})();
