// Earlier names of settings and of their values, which are understood for one version: in flags, config files, the environment,
// experiments, pipelines, checkpoints and the records of runs. A renamed key or value gets a line here, and nothing else.

/** Keys, by their earlier names. */
export const RENAMED_KEYS: Readonly<Record<string, string>> = {
  attn_block_size: "attn_chunk",
  expert_capacity: "expert_capacity_factor",
};

/** Values, by their key (today's) and their earlier names. */
export const RENAMED_VALUES: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  attention: { flash: "recompute" },
  choices: RENAMED_KEYS, // bench.ts: a list of settings
};

/** Today's name of a key. */
export const currentKey = (key: string): string => newName(RENAMED_KEYS, key) ?? key;

/** A setting under today's names. `note` says what was renamed, if anything was. A list's items are renamed one by one. */
export function currentSetting<T>(key: string, value: T): { key: string; value: T; note?: string } {
  const now = currentKey(key);
  const names = Object.hasOwn(RENAMED_VALUES, now) ? RENAMED_VALUES[now] : undefined;
  const renamed: string[] = now === key ? [] : [`${key} is now called ${now}`];
  const itemNow = (item: unknown) => {
    const name = typeof item === "string" ? newName(names, item) : undefined;
    if (name !== undefined) renamed.push(`${now}=${item} is now called ${name}`);
    return name ?? item;
  };
  const current = (Array.isArray(value) ? value.map(itemNow) : itemNow(value)) as T;
  return { key: now, value: current, ...(renamed.length > 0 && { note: renamed.join(", and ") }) };
}

/** Saved settings under today's names. */
export function currentSettings<T>(saved: Readonly<Record<string, T>>): Record<string, T> {
  return Object.fromEntries(
    Object.entries(saved).map(([name, saved]) => {
      const { key, value } = currentSetting(name, saved);
      return [key, value];
    }),
  );
}

function newName(names: Readonly<Record<string, string>> | undefined, name: string): string | undefined {
  return names && Object.hasOwn(names, name) ? names[name] : undefined;
}
