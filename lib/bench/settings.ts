// Which of bench.ts' settings say what is measured. A file of its own because bench.ts runs when it is imported, and
// imports nothing itself that would count in its figures.

/** Settings that have no influence on the figures. */
export const NOT_MEASURED: readonly string[] = ["benchmark", "profile", "json", "results", "compare", "to"];
