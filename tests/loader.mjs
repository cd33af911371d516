// Loads TypeScript in the tests and the scripts that they start, in two thirds of the time that tsx takes: what esbuild made of a file
// is kept until the file changes, and a module's name is its file's. tests/run.ts takes it; without that, tests run under tsx as well.

import { register } from "node:module";

register("./loader_hooks.mjs", import.meta.url);
process.setSourceMapsEnabled(true); // stacks have the lines of the TypeScript
