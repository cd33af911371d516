// Requests to MLflow's REST API 2.0: address, login, and the meaning of answers. The login comes from the variables that MLflow's own
// clients use: MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN. Left out: what is requested
// (mlflow.ts).

import { networkReason, UserError } from "../common/errors.ts";
import { printable, withoutPasswords } from "../common/printable.ts";
import { z } from "../common/zod.ts";
import { decoded } from "../settings/login.ts";

const Failure = z.object({ error_code: z.union([z.string(), z.number()]), message: z.optional(z.string()) });

/** The server refused. */
export class Refusal extends Error {
  readonly status: number;
  readonly code: string; // MLflow's error code; empty if the answer isn't MLflow's

  constructor(status: number, code: string, message: string) {
    super(message);
    [this.status, this.code] = [status, code];
  }

  /** Would the same request be refused again? */
  get final(): boolean {
    return this.status < 500 && this.status !== 408 && this.status !== 429;
  }
}

/** There was no answer. */
export class Silence extends Error {}

/** Talks to the server. */
export class MlflowServer {
  readonly shown: string; // the address without a password
  /** Once set, no answer is waited for beyond it. */
  end: AbortSignal | undefined;
  readonly #base: string;
  readonly #patience: number; // ms, for an answer
  readonly #headers: Record<string, string> = {};

  constructor(uri: string, patience: number) {
    this.#patience = patience;
    const url = URL.canParse(uri) ? new URL(uri) : undefined;
    if (!url || !/^https?:$/.test(url.protocol)) {
      throw new UserError(
        `mlflow_uri must be the address of an MLflow server, such as http://127.0.0.1:5000: "${withoutPasswords(uri)}"`,
      );
    }
    const { MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD, MLFLOW_TRACKING_TOKEN } = process.env;
    const username = MLFLOW_TRACKING_USERNAME ?? decoded(url.username);
    const password = MLFLOW_TRACKING_PASSWORD ?? decoded(url.password);
    [url.username, url.password] = ["", ""];
    if (username && password) {
      this.#headers.authorization = `Basic ${Buffer.from(`${username}:${password}`).toString("base64")}`;
    } else if (MLFLOW_TRACKING_TOKEN) this.#headers.authorization = `Bearer ${MLFLOW_TRACKING_TOKEN}`;
    this.shown = `${url.origin}${url.pathname}`.replace(/\/+$/, "");
    this.#base = `${this.shown}/api/2.0/`;
  }

  get(path: string, query: Record<string, string>): Promise<unknown> {
    return this.#ask(`${path}?${new URLSearchParams(query)}`, {});
  }

  post(path: string, body: unknown): Promise<unknown> {
    const headers = { "content-type": "application/json" };
    return this.#ask(path, { method: "POST", headers, body: JSON.stringify(body) });
  }

  put(path: string, text: string): Promise<unknown> {
    const headers = { "content-type": "text/plain; charset=utf-8" };
    return this.#ask(path, { method: "PUT", headers, body: text });
  }

  /** @throws Refusal, or Silence without an answer in time */
  async #ask(path: string, init: RequestInit): Promise<unknown> {
    let status: number;
    let text: string;
    try {
      const response = await fetch(this.#base + path, {
        ...init,
        headers: { ...init.headers, ...this.#headers },
        signal: this.end ?? AbortSignal.timeout(this.#patience),
      });
      [status, text] = [response.status, await response.text()];
    } catch (error) {
      throw new Silence(networkReason(error), { cause: error });
    }
    const answer = parse(text);
    if (status >= 200 && status < 300 && answer !== undefined) return answer;
    const said = Failure.safeParse(answer);
    const { error_code: code = "", message = text } = said.success ? said.data : {};
    const words = printable(message.trim().split("\n")[0]!);
    throw new Refusal(status, String(code), said.success ? words : `HTTP ${status}${words && `: ${words}`}`);
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text || "{}");
  } catch {
    return undefined;
  }
}
