// Keeps what a program prints in a file as well, including lines from before the file was known.

import { AppendFile } from "./append_file.ts";
import { shownText } from "./printable.ts";

export class Log {
  #early: string[] = [];
  #file: AppendFile | undefined;
  #broken = false;

  /** Print a line, and keep it. */
  readonly line = (text: string): void => {
    console.log(text);
    if (this.#file === undefined) this.#early.push(text);
    else this.#write(text);
  };

  /** Keep the lines so far and all later ones in the file `path`, whose folder is created if need be. */
  open(path: string): void {
    this.#file = new AppendFile(path);
    for (const text of this.#early.splice(0)) this.#write(text);
  }

  /** Keep a line that was printed elsewhere. */
  keep(text: string): void {
    if (this.#file !== undefined) this.#write(text);
  }

  close(): void {
    this.#file?.close();
    this.#file = undefined;
  }

  #write(text: string): void {
    if (this.#broken) return;
    try {
      this.#file!.write(`${shownText(text)}\n`); // as it was printed
    } catch (error) {
      this.#broken = true; // a full disk: the terminal still has the lines
      console.log(`the log file can't be written from here on: ${error instanceof Error ? error.message : error}`);
    }
  }
}
