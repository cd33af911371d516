// A password in mlflow_uri: the server gets it, and no file and no line has it. A run that goes on takes it from the
// environment.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { after, test } from "node:test";

import { launch } from "./scripts.ts";
import { tinyRuns } from "./tiny_runs.ts";

const PASSWORD = "s3cret@wo/rd";
const logins = new Set<string | undefined>();
const run = { info: { run_id: "r1", artifact_uri: "x" } };
const server = createServer((request, response) => {
  request.resume();
  logins.add(request.headers.authorization);
  // whoever may come in is told so, and all else that MLflow would answer
  response
    .writeHead(request.headers.authorization ? 200 : 401)
    .end(JSON.stringify({ experiment: { experiment_id: "1" }, run }));
});
await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
after(() => server.close());
const { port } = server.address() as AddressInfo;

const { folder, outDir, args } = tinyRuns({ n_layer: 1, max_iters: 4, eval_interval: 2, tensorboard: true });
const secrets = [PASSWORD, encodeURIComponent(PASSWORD), "s3cret"];

function assertNoPassword(printed: string): void {
  const entries = readdirSync(outDir("run"), { recursive: true, withFileTypes: true });
  const files = entries
    .filter((entry) => entry.isFile())
    .map((entry) => readFileSync(join(entry.parentPath, entry.name)));
  assert.ok(files.length >= 4);
  for (const secret of secrets) for (const text of [printed, ...files]) assert.ok(!text.includes(secret), secret);
}

test("a password in mlflow_uri is in no file and no line, and the run can be resumed without it", async () => {
  const uri = `http://me:${encodeURIComponent(PASSWORD)}@127.0.0.1:${port}`;
  const more = { mlflow_uri: uri, max_iters: 1e6, eval_interval: 3, log_interval: 1 };
  const first = launch("train.ts", args("run", more), { cwd: folder });
  await first.until(/^iter 3:/m);
  first.child.kill("SIGINT");
  const { code, stdout, stderr } = await first.ended;
  assert.equal(code, 130, stdout + stderr);
  assert.match(stdout, /continue with: npx tsx train\.ts/);
  assert.deepEqual([...logins], [`Basic ${Buffer.from(`me:${PASSWORD}`).toString("base64")}`]);
  assertNoPassword(stdout + stderr);

  // without it there is one line that says where it can come from
  const again = args("run", { ...more, mlflow_uri: `http://me@127.0.0.1:${port}`, init_from: "resume", max_iters: 5 });
  const refused = await launch("train.ts", again, { cwd: folder }).ended;
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /^error: MLflow at .* wants a login .*MLFLOW_TRACKING_PASSWORD/);

  logins.clear();
  const env = { MLFLOW_TRACKING_PASSWORD: PASSWORD };
  const second = await launch("train.ts", again, { cwd: folder, env }).ended;
  assert.equal(second.code, 0, second.stderr);
  assert.deepEqual([...logins], [`Basic ${Buffer.from(`me:${PASSWORD}`).toString("base64")}`]);
  assertNoPassword(second.stdout + second.stderr);
});
