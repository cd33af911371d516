// The settings that train.ts takes, as an experiment needs them: out of a config file, and checked before anything runs.

import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { configure } from "../../configurator.ts";
import { UserError } from "../../lib/common/errors.ts";
import { didYouMean } from "../../lib/common/nearest.ts";
import { ROOT } from "../../lib/common/scripts.ts";
import { checkValue } from "../../lib/settings/check_value.ts";
import { currentSetting } from "../../lib/settings/renamed.ts";
import { findConflict, type Settings } from "../../lib/settings/rules.ts";
import { show } from "../../lib/settings/show.ts";
import { defaults as trainDefaults } from "../../train.ts";

/** Complete settings from a config file of train.ts and what it extends; NANOGPT_ENV has no say in an experiment. */
export async function readBase(path: string): Promise<Settings> {
  const script = pathToFileURL(join(ROOT, "train.ts")).href;
  return { ...(await configure(script, { ...trainDefaults }, { argv: [path], env: {}, log() {} })) };
}

/**
 * Check settings one by one; earlier names are replaced by today's.
 * @param where they come from, for the message
 * @throws UserError for a key that train.ts doesn't have, or a value that it can't be
 */
export function checkSettings(settings: Readonly<Record<string, unknown>>, where: string): Settings {
  const known: Settings = trainDefaults;
  const checked: Settings = {};
  for (const [name, given] of Object.entries(settings)) {
    const { key, value } = currentSetting(name, given);
    if (!Object.hasOwn(known, key)) {
      const help = didYouMean(key, Object.keys(known)) ?? "npx tsx train.ts --help=all lists the keys";
      throw new UserError(`${where}: unknown key ${show(key)}; ${help}`);
    }
    if (Object.hasOwn(checked, key)) throw new UserError(`${where}: ${key} is given under two names; leave one out`);
    const result = checkValue(key, value, known);
    if ("problem" in result) throw new UserError(`${where}: ${result.problem}${result.hint}`);
    checked[key] = result.value;
  }
  return checked;
}

/**
 * Check complete settings as a whole: combinations that can't be trained.
 * @throws UserError
 */
export function checkTogether(config: Readonly<Settings>, where: string): void {
  const conflict = findConflict({ ...config });
  if (conflict) throw new UserError(`${where}: ${conflict.problem}`);
}
