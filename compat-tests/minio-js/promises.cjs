// minio-js's view of minikv: each entry is one promise; its name is printed with the outcome.
const assert = require("node:assert");
const fs = require("node:fs");
const Minio = require("minio");

const { ENDPOINT, BUCKET, DATA, WORK, RESULTS, SCHEME, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY } = process.env;
const at = new URL(ENDPOINT);
const client = new Minio.Client({ endPoint: at.hostname, port: Number(at.port), useSSL: SCHEME === "https", accessKey: AWS_ACCESS_KEY_ID, secretKey: AWS_SECRET_ACCESS_KEY });
const all = (stream) => new Promise((resolve, reject) => {
  const found = [];
  stream.on("data", (one) => found.push(one)).on("end", () => resolve(found)).on("error", reject);
});

const promises = {
  "make a bucket": async () => {
    await client.makeBucket(BUCKET);
    assert(await client.bucketExists(BUCKET));
  },
  "files come back as they were": async () => {
    for (const name of ["empty", "five", "inline-64k", "over-64k", "5MiB", "100MiB"]) {
      await client.fPutObject(BUCKET, `files/${name}`, `${DATA}/${name}`);
      await client.fGetObject(BUCKET, `files/${name}`, `${WORK}/${name}`);
      assert(fs.readFileSync(`${WORK}/${name}`).equals(fs.readFileSync(`${DATA}/${name}`)), name);
    }
  },
  "metadata comes back": async () => {
    await client.putObject(BUCKET, "meta", "x", undefined, { colour: "blue" });
    assert.equal((await client.statObject(BUCKET, "meta")).metaData.colour, "blue");
  },
  "awkward names are listed": async () => {
    const names = ["a b", "a+b", "ä/日本", "100%"].map((name) => `names/${name}`).sort();
    for (const name of names) await client.putObject(BUCKET, name, "x");
    const listed = (await all(client.listObjectsV2(BUCKET, "names/", true))).map((one) => one.name).sort();
    assert.deepEqual(listed, names);
  },
  "a range is read": async () => {
    const part = Buffer.concat(await all(await client.getPartialObject(BUCKET, "files/5MiB", 100, 50)));
    assert(part.equals(fs.readFileSync(`${DATA}/5MiB`).subarray(100, 150)));
  },
  "copy on the server": async () => {
    await client.copyObject(BUCKET, "copied", `/${BUCKET}/files/5MiB`, new Minio.CopyConditions());
    assert.equal((await client.statObject(BUCKET, "copied")).size, 5 << 20);
  },
  "presigned URLs work": async () => {
    assert.equal((await fetch(await client.presignedPutObject(BUCKET, "pre", 60), { method: "PUT", body: "pre" })).status, 200);
    assert.equal(await (await fetch(await client.presignedGetObject(BUCKET, "pre", 60))).text(), "pre");
  },
  "a post policy uploads": async () => {
    const policy = client.newPostPolicy();
    policy.setBucket(BUCKET);
    policy.setKey("form");
    policy.setExpires(new Date(Date.now() + 60_000));
    policy.setContentLengthRange(1, 100);
    const { postURL, formData } = await client.presignedPostPolicy(policy);
    const form = new FormData();
    for (const [name, value] of Object.entries(formData)) form.append(name, value);
    form.append("file", new Blob(["hi"]), "a.txt");
    assert.equal((await fetch(postURL, { method: "POST", body: form })).status, 204);
  },
  "a missing key is told": async () => {
    await assert.rejects(client.getObject(BUCKET, "no/such"), { code: "NoSuchKey" });
  },
  "the bucket can be emptied and removed": async () => {
    const names = (await all(client.listObjectsV2(BUCKET, "", true))).map((one) => one.name);
    await client.removeObjects(BUCKET, names);
    await client.removeBucket(BUCKET);
  },
};

(async () => {
  console.log("minio-js", require("minio/package.json").version);
  for (const [name, promise] of Object.entries(promises)) {
    let outcome = "ok", reason = "";
    try { await promise(); } catch (error) { outcome = "FAIL"; reason = `${error.code || error.name}: ${error.message}`.replace(/\s+/g, " ").slice(0, 300); }
    console.log(`  ${outcome.padEnd(5)} minio-js/${SCHEME} ${name}${reason && ": " + reason}`);
    fs.appendFileSync(RESULTS, ["minio-js", SCHEME, name, outcome, reason].join("\t") + "\n");
  }
})();
