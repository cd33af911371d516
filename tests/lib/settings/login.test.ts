// lib/settings/login.ts: a password leaves the settings for the environment.

import assert from "node:assert/strict";
import { test } from "node:test";

import { takePassword } from "../../../lib/settings/login.ts";

for (const [uri, left, password] of [
  ["http://me:s3cret@host:5000/x", "http://me@host:5000/x", "s3cret"],
  ["https://me:a%40b%20c@host", "https://me@host", "a@b c"],
  ["https://me:100%@host", "https://me@host", "100%"], // no escape, but a "%"
  ["https://me:two words@host", "https://me@host", "two words"],
  ["https://:token@host", "https://@host", "token"],
  ["http://me:p/w@host", "http://me@host", undefined], // no address, so there is no server to send it to
  ["http://127.0.0.1:5000", "http://127.0.0.1:5000", undefined],
  ["", "", undefined],
] as const) {
  test(`mlflow_uri=${uri}`, () => {
    const env: NodeJS.ProcessEnv = {};
    assert.equal(takePassword("mlflow_uri", uri, env), left);
    assert.equal(env.MLFLOW_TRACKING_PASSWORD, password);
  });
}

test("the environment's own password counts, and other settings are left alone", () => {
  const env: NodeJS.ProcessEnv = { MLFLOW_TRACKING_PASSWORD: "mine" };
  assert.equal(takePassword("mlflow_uri", "http://me:theirs@host", env), "http://me@host");
  assert.equal(env.MLFLOW_TRACKING_PASSWORD, "mine");
  assert.equal(takePassword("start", "http://me:said@host", env), "http://me:said@host");
});
