// "Did you mean ...?" for words that people mistype: keys, names, files.

import leven from "leven";

const LONGEST = 200; // letters of a name or a path: comparing takes quadratic time

/** "did you mean n_layer?" where one of the `known` words is near to `word`; `show` formats it. */
export function didYouMean(word: string, known: readonly string[], show = (near: string) => near): string | undefined {
  if (word.length > LONGEST) return undefined;
  const spelled = word.toLowerCase();
  const distance = (other: string) => leven(spelled, other.toLowerCase());
  const [nearest] = known.toSorted((a, b) => distance(a) - distance(b));
  const most = spelled.length < 3 ? 0 : Math.max(1, spelled.length / 3); // letters: two of them are near to anything
  if (nearest === undefined || distance(nearest) > most) return undefined;
  return `did you mean ${show(nearest)}?`;
}
