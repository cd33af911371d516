// A folder for the files of one benchmark, gone afterwards even where the process is stopped meanwhile.

import { explain } from "../common/errors.ts";
import { TemporaryFolder } from "../common/temporary_folder.ts";

/** Run `body` with a new folder below the system's one for temporary files. */
export async function withTemporaryFolder<T>(body: (folder: string) => Promise<T>): Promise<T> {
  const folder = new TemporaryFolder("bench");
  try {
    return await body(folder.path);
  } catch (error) {
    throw explain(error, `can't work in ${folder.path}`); // a full disk, for example
  } finally {
    folder.remove();
  }
}
