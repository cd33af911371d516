// lib/monitor/mlflow.ts: what it sends, with a server of ours in MLflow's place that keeps what comes and fails on demand;
// then a real one, which is asked what it has.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import test, { after, afterEach } from "node:test";

import type { Run } from "../../../lib/monitor/callback.ts";
import { checkMlflow, mlflow } from "../../../lib/monitor/mlflow.ts";
import { pythonWith } from "../../python.ts";
import { eventually, launchCommand, temporaryFolder } from "../../scripts.ts";
import { aRun, end, evaluate, failureOf, refusalOf, step } from "./support.ts";

const FOLDER = temporaryFolder();
const TEXT = "To be,\n  or not: naïve 東京 🙂\n";

type Fields = Record<string, unknown>;
interface Point {
  key: string;
  value: number | string;
  timestamp: number;
  step: number;
}
interface KeyValue {
  key: string;
  value: string;
}
interface Ask {
  method: string;
  path: string; // below /api/2.0/
  query: URLSearchParams;
  text: string;
  body: Fields;
  headers: IncomingMessage["headers"];
}
type Answer = { status?: number; body: unknown } | "cut" | "silence"; // of the connection

const unknown = { status: 404, body: { error_code: "RESOURCE_DOES_NOT_EXIST", message: "there is none" } };

/** As much of MLflow as is needed. `intercept` answers before it does. */
class Fake {
  asked: Ask[] = [];
  intercept: (ask: Ask) => Answer | "go on" = () => "go on";
  experiments: string[] = [];
  params: KeyValue[] = [];
  tags: KeyValue[] = [];
  artifactUri = "mlflow-artifacts:/1/r1/artifacts";
  uri = "";
  readonly #server = createServer(async (request, response) => {
    let text = "";
    for await (const part of request.setEncoding("utf8")) text += part;
    const url = new URL(request.url!, "http://x");
    const path = decodeURI(url.pathname.replace("/api/2.0/", ""));
    const body = request.headers["content-type"] === "application/json" ? JSON.parse(text) : {};
    const ask = { method: request.method!, path, query: url.searchParams, text, body, headers: request.headers };
    this.asked.push(ask);
    const given = this.intercept(ask);
    const answer = given === "go on" ? this.#answer(ask) : given;
    if (answer === "silence") return;
    if (answer === "cut") return void request.socket.destroy();
    response.writeHead(answer.status ?? 200, { "content-type": "application/json" });
    response.end(typeof answer.body === "string" ? answer.body : JSON.stringify(answer.body));
  });

  async start(): Promise<this> {
    this.#server.listen(0, "127.0.0.1");
    await once(this.#server, "listening");
    this.uri = `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
    return this;
  }

  stop(): void {
    this.#server.closeAllConnections();
    this.#server.close();
  }

  #answer({ path, query, body }: Ask): Answer {
    const run = {
      info: { run_id: "r1", artifact_uri: this.artifactUri, lifecycle_stage: "active" },
      data: { params: this.params },
    };
    if (path === "mlflow/experiments/get-by-name") {
      const at = this.experiments.indexOf(query.get("experiment_name")!);
      return at < 0 ? unknown : { body: { experiment: { experiment_id: String(at + 1) } } };
    }
    if (path === "mlflow/experiments/create")
      return { body: { experiment_id: String(this.experiments.push(body.name as string)) } };
    if (path === "mlflow/runs/create") return { body: { run } };
    if (path === "mlflow/runs/get") return query.get("run_id") === "r1" ? { body: { run } } : unknown;
    if (path === "mlflow/runs/log-batch") {
      this.params.push(...((body.params as KeyValue[]) ?? []));
      this.tags.push(...((body.tags as KeyValue[]) ?? []));
    }
    return { body: {} };
  }

  bodies(path: string): Fields[] {
    return this.asked.filter((ask) => ask.path === path).map(({ body }) => body);
  }

  /** The batches of points that were taken. */
  get batches(): Point[][] {
    return this.bodies("mlflow/runs/log-batch").flatMap(({ metrics }) => (metrics ? [metrics as Point[]] : []));
  }
}

const started: Fake[] = [];
async function fake(): Promise<Fake> {
  const server = await new Fake().start();
  started.push(server);
  return server;
}
after(() => {
  for (const server of started) server.stop();
});

const LOGIN = ["MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"];
const forget = () => {
  for (const name of LOGIN) delete process.env[name];
};
forget();
afterEach(forget);

async function start(server: Fake, overrides: Partial<Run> = {}, patience?: number) {
  const said: string[] = [];
  const callback = mlflow({ uri: server.uri, experiment: "owt", ...(patience && { patience }) });
  await callback.onTrainStart!(aRun(FOLDER, { log: (line) => said.push(line), ...overrides }));
  return { callback, said };
}

/** A port of 127.0.0.1 on which nobody listens. */
async function freePort(): Promise<number> {
  const probe = createServer().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const { port } = probe.address() as AddressInfo;
  probe.close();
  await once(probe, "close");
  return port;
}

test("a server that can't be used is refused in one line", async () => {
  assert.match(
    await refusalOf(checkMlflow("databricks")),
    /^mlflow_uri must be the address of an MLflow server, such as .*"databricks"$/,
  );
  const unreachable = `127.0.0.1:${await freePort()}`;
  const silent = /^no answer from MLflow at http:\/\/127\.0\.0\.1:\d+ \(ECONNREFUSED\); start it with `mlflow server`/;
  assert.match(await refusalOf(checkMlflow(`http://${unreachable}`)), silent);
  assert.match(await refusalOf(checkMlflow(`http://me:secret@${unreachable}`)), silent);
  const server = await fake();
  for (const [status, body] of [
    [200, "<html>\nhello"],
    [200, "{}"],
    [404, "<html>\nnot found"],
    [500, { error_code: "INTERNAL_ERROR", message: "no\ndatabase" }],
  ] as const) {
    server.intercept = () => ({ status, body });
    assert.match(
      await refusalOf(checkMlflow(server.uri)),
      /^no MLflow at http:\/\/127\.0\.0\.1:\d+, which answers .+; correct mlflow_uri$/,
    );
  }
  server.intercept = () => ({ status: 401, body: "who are you?" });
  assert.match(await refusalOf(checkMlflow(server.uri)), /wants a login .*who are you\?.*MLFLOW_TRACKING_TOKEN$/);
  server.intercept = () => "go on"; // MLflow without the experiment
  await checkMlflow(`${server.uri}/`);
});

test("a login is sent as MLflow's own clients do", async () => {
  const server = await fake();
  const sent = async (uri = server.uri) => {
    await checkMlflow(uri);
    return server.asked.at(-1)!.headers.authorization;
  };
  const basic = `Basic ${Buffer.from("me:it's").toString("base64")}`;
  assert.equal(await sent(), undefined);
  assert.equal(await sent(server.uri.replace("//", "//me:it's@")), basic);
  process.env.MLFLOW_TRACKING_TOKEN = "abc";
  assert.equal(await sent(), "Bearer abc");
  Object.assign(process.env, { MLFLOW_TRACKING_USERNAME: "me", MLFLOW_TRACKING_PASSWORD: "it's" });
  assert.equal(await sent(), basic);
});

test("settings, points, texts and the end arrive within MLflow's limits", async () => {
  const began = Date.now();
  const server = await fake();
  const many = Object.fromEntries(Array.from({ length: 150 }, (_, i) => [`setting_${i}`, i]));
  const config = { ...many, long: "x".repeat(9000), list: ["a", 1], none: "", mlflow_uri: server.uri };
  const { callback, said } = await start(server, { config });
  for (let iter = 0; iter < 1300; iter++) await step(callback, iter);
  await step(callback, 1300, { loss: Number.NaN, lr: Number.NEGATIVE_INFINITY, "/odd//[name]é/../x": 1 });
  await evaluate(callback, 1301, { "sample/1": TEXT });
  await end(callback, 1301, "stopped");
  assert.deepEqual(server.experiments, ["owt"]);
  assert.equal(server.bodies("mlflow/runs/create")[0]!.run_name, "toy");
  for (const { params, tags } of server.bodies("mlflow/runs/log-batch") as { params?: Fields[]; tags?: Fields[] }[]) {
    assert.ok((params?.length ?? 0) <= 100 && (tags?.length ?? 0) <= 100);
  }
  const text = (value: unknown) => (typeof value === "string" ? value.slice(0, 500) : JSON.stringify(value));
  assert.deepEqual(
    server.params,
    Object.entries(config).map(([key, value]) => ({ key, value: text(value) })),
  );
  assert.deepEqual(server.tags, [
    { key: "device", value: "cpu" },
    { key: "parameters", value: "12" },
  ]);
  assert.deepEqual(
    server.batches.map(({ length }) => length),
    [1000, 1000, 604],
  );
  const points = server.batches.flat().map(({ key, value, step }) => [key, value, step]);
  assert.deepEqual(points, [
    ...Array.from({ length: 1300 }, (_, iter) => [
      ["loss", 1 / (iter + 1), iter],
      ["lr", 0.001, iter],
    ]).flat(),
    ["loss", "NaN", 1300],
    ["lr", "-Infinity", 1300],
    ["odd/_name__/x", 1, 1300],
    ["val/loss", 2.5, 1301],
  ]);
  assert.ok(server.batches.flat().every(({ timestamp }) => timestamp >= began && timestamp <= Date.now()));
  const put = server.asked.find(({ method }) => method === "PUT")!;
  assert.deepEqual([put.path, put.text], ["mlflow-artifacts/artifacts/1/r1/artifacts/sample/1/00001301.txt", TEXT]);
  const [update] = server.bodies("mlflow/runs/update");
  assert.deepEqual([update!.run_id, update!.status, typeof update!.end_time], ["r1", "FINISHED", "number"]);
  assert.deepEqual(said, []);
});

test("where artifacts aren't passed on, texts become tags", async () => {
  const server = await fake();
  server.intercept = ({ method }) => (method === "PUT" ? { status: 503, body: "artifacts are not served" } : "go on");
  const { callback, said } = await start(server);
  await evaluate(callback, 1, { sample: TEXT });
  await evaluate(callback, 2, { sample: "x".repeat(9000) });
  await end(callback, 2);
  assert.deepEqual(
    server.bodies("mlflow/runs/set-tag").map(({ key, value }) => [key, value]),
    [
      ["sample/00000001.txt", TEXT],
      ["sample/00000002.txt", "x".repeat(5000)],
    ],
  );
  assert.equal(server.asked.filter(({ method }) => method === "PUT").length, 1);
  assert.match(
    said.join("\n"),
    /^mlflow: .* accepts no artifacts \(HTTP 503: artifacts are not served\); texts become truncated tags$/,
  );
  server.artifactUri = "s3://somewhere/1/r1/artifacts";
  const other = await start(server);
  await evaluate(other.callback, 3, { sample: "short" });
  await end(other.callback, 3);
  assert.equal(server.bodies("mlflow/runs/set-tag").at(-1)!.value, "short");
  assert.equal(server.asked.filter(({ method }) => method === "PUT").length, 1);
});

for (const [name, kind] of Object.entries<Answer>({
  "cuts connections": "cut",
  "is busy": { status: 503, body: "busy" },
  "has had too many requests": { status: 429, body: "enough" },
})) {
  test(`a server that ${name} stops no step, loses no point, and is named once`, async (t) => {
    let now = performance.now();
    t.mock.method(performance, "now", () => now); // what it waits for between two tries
    const server = await fake();
    const { callback, said } = await start(server);
    let answer: Answer | "go on" = kind;
    const taken: Point[] = [];
    server.intercept = ({ path, body }) => {
      if (path === "mlflow/runs/log-batch" && answer === "go on") taken.push(...(body.metrics as Point[]));
      return path === "mlflow/runs/log-batch" ? answer : "go on";
    };
    await evaluate(callback, 99);
    await eventually(() => said.length === 1, "the line");
    for (let iter = 100; iter < 110; iter++) await step(callback, iter);
    await evaluate(callback, 110);
    await new Promise((resolve) => setTimeout(resolve, 100));
    assert.equal(server.batches.length, 1, "tried again at once");
    answer = "go on";
    await eventually(() => {
      now += 50;
      step(callback, 111);
      return said.length === 2;
    }, "a second try");
    await end(callback, 112);
    const iters = taken.flatMap(({ key, step }) => (key === "lr" ? [] : [step]));
    assert.deepEqual(
      iters.slice(0, 13),
      Array.from({ length: 13 }, (_, i) => 99 + i),
    );
    assert.match(said[0]!, /^mlflow: http:\S+ is unreachable \(.+\); the points are kept and sent later$/);
    assert.match(said[1]!, /^mlflow: http:\S+ answers again$/);
    assert.equal(said.length, 2);
  });
}

test("while a server is unreachable the newest points are kept, and the end says how many are missing", async () => {
  const server = await fake();
  const { callback, said } = await start(server);
  server.intercept = () => "cut";
  await evaluate(callback, 0);
  await eventually(() => said.length === 1, "the line");
  for (let iter = 0; iter < 60_000; iter++) step(callback, iter);
  server.intercept = () => "go on";
  server.asked = [];
  await end(callback, 60_000);
  const kept = server.batches.flat();
  assert.ok(kept.length > 80_000 && kept.length <= 100_000, `${kept.length} were kept`);
  assert.equal(kept.at(-1)!.step, 59_999);
  assert.equal(kept[0]!.step, 59_999 - Math.floor((kept.length - 1) / 2));
  assert.match(said.at(-1)!, new RegExp(`mlflow: ${120_001 - kept.length} points and 0 texts are missing there`));
});

for (const kind of ["cut", "silence"] as const) {
  test(`at the end a server is tried once more, but not for longer than it may take (${kind})`, async (t) => {
    const limits: AbortController[] = []; // the test says when they have passed
    t.mock.method(AbortSignal, "timeout", () => {
      limits.push(new AbortController());
      return limits.at(-1)!.signal;
    });
    const server = await fake();
    const { callback, said } = await start(server);
    server.intercept = ({ path }) => {
      if (path !== "mlflow/runs/log-batch") return "go on";
      if (kind === "silence") limits.at(-1)!.abort(new DOMException("", "TimeoutError"));
      return kind;
    };
    await evaluate(callback, 0, { sample: TEXT });
    await eventually(() => said.length === 1, "the line");
    const before = limits.length;
    await end(callback, 1);
    assert.equal(limits.length, before + 1, "one limit for all that is left to say");
    assert.equal(server.batches.length, 2);
    assert.match(
      said.slice(1).join("\n"),
      /didn't learn that the run ended\nmlflow: 1 points and 1 texts are missing there/,
    );
  });
}

test("a request that will always be refused ends the callback, with the server's words", async () => {
  const server = await fake();
  const { callback } = await start(server);
  const body = { error_code: "INVALID_PARAMETER_VALUE", message: "the run is deleted\nstack" };
  server.intercept = () => ({ status: 400, body });
  await evaluate(callback, 0);
  assert.equal(await failureOf(callback, 1), "the run is deleted");
  assert.equal(callback.onError, "continue");
});

test("a resumed run goes on in its own run, and changed settings become tags", async () => {
  const server = await fake();
  const first = await start(server);
  const state = JSON.parse(JSON.stringify(first.callback.state!()));
  await end(first.callback, 0, "interrupted");
  const said: string[] = [];
  const run = aRun(FOLDER, { config: { dataset: "letters", learning_rate: 5 }, log: (line) => said.push(line) });
  const second = mlflow({ uri: server.uri, experiment: "owt" });
  second.restore!(state);
  await second.onTrainStart!(run);
  await end(second, 0, "failed");
  assert.equal(server.bodies("mlflow/runs/create").length, 1);
  assert.deepEqual(
    server.bodies("mlflow/runs/update").map(({ status }) => status),
    ["KILLED", "RUNNING", "FAILED"],
  );
  assert.equal(server.params.length, 2);
  assert.deepEqual(server.tags.at(-1), { key: "config/learning_rate", value: "5" });
  const third = mlflow({ uri: server.uri, experiment: "owt" });
  third.restore!({ run_id: "gone" });
  await third.onTrainStart!(run);
  assert.deepEqual(third.state!(), { run_id: "r1" });
  assert.match(said.join("\n"), /^mlflow: .* no longer has run gone; starting a new one$/);
});

// ---- a real one --------------------------------------------------------------------------------------------------

const found = pythonWith(["mlflow", "flask", "flask_cors", "sqlalchemy", "alembic", "gunicorn"]);
const skip = process.platform === "win32" ? "gunicorn does not run on Windows" : "missing" in found && found.missing;
test("a real MLflow server has all of it, before and after a resume", { skip }, async () => {
  if ("missing" in found) return;
  const port = await freePort();
  const where = [
    `--backend-store-uri=sqlite:///${join(FOLDER, "mlflow.db")}`,
    `--artifacts-destination=${join(FOLDER, "artifacts")}`,
  ];
  const server = launchCommand(
    found.python,
    ["-m", "mlflow", "server", "--host=127.0.0.1", `--port=${port}`, "--workers=1", "--gunicorn-opts=", ...where],
    { cwd: FOLDER, env: { MLFLOW_SERVER_ENABLE_JOB_EXECUTION: "false" } },
  );
  try {
    const uri = `http://127.0.0.1:${port}`;
    await eventually(
      () =>
        checkMlflow(uri).then(
          () => true,
          () => false,
        ),
      "an answer",
    );
    const ask = async (path: string) => (await fetch(`${uri}/${path}`)).text();
    const get = async (path: string) => JSON.parse(await ask(`api/2.0/mlflow/${path}`));
    const said: string[] = [];
    const config = { dataset: "letters", learning_rate: 1e-3, callbacks: [], name: "", long: "x".repeat(2000) };
    const run = aRun(FOLDER, { config, log: (line) => said.push(line) });
    const callback = mlflow({ uri, experiment: "owt" });
    await callback.onTrainStart!(run);
    for (let iter = 0; iter < 1500; iter++)
      await step(callback, iter, iter === 7 ? { loss: Number.NaN, lr: Number.POSITIVE_INFINITY } : undefined);
    await evaluate(callback, 1500, { sample: TEXT });
    const state = callback.state!() as { run_id: string };
    await end(callback, 1500, "interrupted");
    const history = async (key: string) =>
      (await get(`metrics/get-history?run_id=${state.run_id}&metric_key=${key}&max_results=5000`)).metrics as Point[];
    const bySteps = (points: Point[]) =>
      points.map(({ step, value }) => [step ?? 0, value]).sort((a, b) => Number(a[0]) - Number(b[0]));
    const losses = Array.from({ length: 1500 }, (_, iter) => [iter, iter === 7 ? "NaN" : 1 / (iter + 1)]);
    assert.deepEqual(bySteps(await history("loss")), losses);
    assert.equal(Number(bySteps(await history("lr"))[7]![1]), Number.MAX_VALUE); // as it keeps infinity
    assert.deepEqual(bySteps(await history("val/loss")), [[1500, 2.5]]);
    const [one] = await history("val/loss"); // what is sent again, since the answer was lost, is there once
    const metrics = [one, { ...one, key: "val/other" }];
    const headers = { "content-type": "application/json" };
    const body = JSON.stringify({ run_id: state.run_id, metrics });
    assert.equal((await fetch(`${uri}/api/2.0/mlflow/runs/log-batch`, { method: "POST", headers, body })).status, 200);
    assert.deepEqual([(await history("val/loss")).length, (await history("val/other")).length], [1, 1]);
    const killed = (await get(`runs/get?run_id=${state.run_id}`)).run;
    assert.equal(killed.info.status, "KILLED");
    assert.equal(killed.info.run_name, "toy");
    const params = Object.fromEntries(killed.data.params.map(({ key, value }: KeyValue) => [key, value]));
    assert.deepEqual(params, {
      dataset: "letters",
      learning_rate: "0.001",
      callbacks: "[]",
      name: "",
      long: "x".repeat(500),
    });
    assert.equal(await ask(`get-artifact?run_id=${state.run_id}&path=sample/00001500.txt`), TEXT);

    const again = mlflow({ uri, experiment: "owt" });
    again.restore!(state);
    await again.onTrainStart!({ ...run, config: { ...config, learning_rate: 2 } });
    await step(again, 1500);
    await end(again, 1501);
    const { info, data } = (await get(`runs/get?run_id=${state.run_id}`)).run;
    assert.equal(info.status, "FINISHED");
    const tags = Object.fromEntries(data.tags.map(({ key, value }: KeyValue) => [key, value]));
    assert.deepEqual([tags.device, tags["config/learning_rate"]], ["cpu", "2"]);
    assert.equal((await history("loss")).length, 1501);
    assert.deepEqual(said, []);
  } finally {
    server.child.kill("SIGTERM");
    await server.ended;
  }
});
