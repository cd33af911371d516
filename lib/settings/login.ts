// A login in the address of a tracker: settings are written to checkpoints, logs, trackers and commands, and a password must be in
// none of them. So it moves to the environment, where MLflow's own clients look for it and which child processes inherit. A user
// name stays in the address.

import { withoutPasswords } from "../common/printable.ts";
import type { Value } from "./rules.ts";

/** The setting's value without a password; that becomes MLFLOW_TRACKING_PASSWORD, unless it is set. */
export function takePassword(key: string, value: Value, env = process.env): Value {
  if (key !== "mlflow_uri" || typeof value !== "string") return value;
  const password = URL.canParse(value) ? new URL(value).password : "";
  if (password !== "") env.MLFLOW_TRACKING_PASSWORD ??= decoded(password);
  return withoutPasswords(value.replace(/^(\s*\w+:\/\/[^:@/?#]*):[^/?#]*@/, "$1@"));
}

/** Decode a part of an address; unchanged if its "%" is no escape. */
export function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
