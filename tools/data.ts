// Runs a dataset's prepare script by the dataset's name.
//
//   npm run data -- shakespeare_char --out=data/mine        # data/shakespeare_char/prepare.ts with the other flags
//   npm run data                                            # lists the datasets

import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { main, UserError } from "../lib/common/errors.ts";
import { isMain } from "../lib/common/main_module.ts";
import { didYouMean } from "../lib/common/nearest.ts";
import { helpAsked } from "../lib/settings/help.ts";
import { datasetFolder, knownDatasets } from "../lib/text/dataset.ts";

/**
 * Prepare a dataset.
 * @param argv its name, then the flags of its script
 * @throws UserError for an unknown dataset
 */
export async function run([name, ...rest]: readonly string[]): Promise<void> {
  if (name === undefined || helpAsked([name])) {
    console.log("usage: npm run data -- DATASET [--key=value ...], or -- DATASET --help");
    return console.log(`datasets: ${knownDatasets().join(", ")}`);
  }
  if (!knownDatasets().includes(name)) {
    const near = didYouMean(name, knownDatasets());
    throw new UserError(`no dataset "${name}" to prepare; ${near ?? `there are: ${knownDatasets().join(", ")}`}`);
  }
  const script = join(datasetFolder(name), "prepare.ts");
  process.argv = [process.argv[0]!, script, ...rest]; // as if it had been started directly
  await import(pathToFileURL(script).href);
}

if (isMain(import.meta.url)) await main(() => run(process.argv.slice(2)));
