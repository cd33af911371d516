// A login in the address of a tracker: settings are written to checkpoints, logs, other trackers and commands to be pasted,
// and a password must be in none of them. So it goes where MLflow's own clients look for it, the environment, which
// processes that this one starts have too. Leaves out user names, which stay in the address.

import { withoutPasswords } from "../common/printable.ts";
import type { Value } from "./rules.ts";

/** The setting's value without a password; that is MLFLOW_TRACKING_PASSWORD from now on, unless there is one. */
export function takePassword(key: string, value: Value, env = process.env): Value {
  if (key !== "mlflow_uri" || typeof value !== "string") return value;
  const password = URL.canParse(value) ? new URL(value).password : "";
  if (password !== "") env.MLFLOW_TRACKING_PASSWORD ??= decoded(password);
  return withoutPasswords(value.replace(/^(\s*\w+:\/\/[^:@/?#]*):[^/?#]*@/, "$1@"));
}

/** What a part of an address stands for; as it is where its "%" is one. */
export function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
