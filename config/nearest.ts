// "Did you mean ...?" for words that people mistype: keys, names, files.

import leven from "leven";

/** "did you mean n_layer?" where one of the `known` words is near to `word`. */
export function didYouMean(word: string, known: readonly string[]): string | undefined {
  const spelled = word.toLowerCase();
  const distance = (other: string) => leven(spelled, other.toLowerCase());
  const [nearest] = known.toSorted((a, b) => distance(a) - distance(b));
  if (nearest === undefined || distance(nearest) > Math.max(1, spelled.length / 3)) return undefined;
  return `did you mean ${nearest}?`;
}
