// ONNX Runtime's C API (onnxruntime_c_api.h), called through koffi on the library in the package onnxruntime-node: the
// functions that we need, by their index in struct OrtApi, which only grows at its end. The package's own binding isn't used because
// its run() blocks the event loop, so that no signal or page is handled meanwhile, and it copies all results.
//
// Pointers don't leave this file. A wrong one crashes the process without a message, so after changing the table below try every function
// of it (tests/lib/engine/runtime/session.test.ts).

import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";

import type { LibraryHandle } from "koffi";

import { UserError } from "../../common/errors.ts";
import { nativeCalls } from "../../common/native.ts";

/** A handle of ONNX Runtime, or the address of an array. */
export type Pointer = bigint;

/** An error that ONNX Runtime reports. */
export class OrtError extends Error {
  override name = "OrtError";
  readonly code: number; // OrtErrorCode

  constructor(code: number, message: string) {
    super(message);
    this.code = code;
  }
}

/** A function that returns an OrtStatus; `later` calls it on another thread, off the event loop. */
interface Call {
  (...args: unknown[]): void;
  later(...args: unknown[]): Promise<void>;
}

const API_VERSION = 30;
const VERSION = /^1\.30\./; // the version with these indices; others may work, but were not tried
const POINTER = "void *";
const OUT = "_Out_ void **";
const PATH = process.platform === "win32" ? "str16" : "str"; // ORTCHAR_T

/** Functions that return an OrtStatus, null on success: [index, arguments]. */
const CALLS = {
  CreateEnv: [3, ["int", "str", OUT]],
  CreateSessionFromArray: [8, [POINTER, POINTER, "size_t", POINTER, OUT]],
  Run: [9, [POINTER, POINTER, POINTER, POINTER, "size_t", POINTER, "size_t", POINTER]],
  CreateSessionOptions: [10, [OUT]],
  EnableProfiling: [14, [POINTER, PATH]],
  DisableMemPattern: [17, [POINTER]],
  SetSessionLogSeverityLevel: [22, [POINTER, "int"]],
  SetSessionGraphOptimizationLevel: [23, [POINTER, "int"]],
  SetIntraOpNumThreads: [24, [POINTER, "int"]],
  SetInterOpNumThreads: [25, [POINTER, "int"]],
  CreateRunOptions: [39, [OUT]],
  RunOptionsSetTerminate: [46, [POINTER]],
  CreateTensorWithDataAsOrtValue: [49, [POINTER, POINTER, "size_t", POINTER, "size_t", "int", OUT]],
  CreateCpuMemoryInfo: [69, ["int", "int", OUT]],
  AllocatorFree: [76, [POINTER, POINTER]],
  GetAllocatorWithDefaultOptions: [78, [OUT]],
  SessionEndProfiling: [110, [POINTER, POINTER, OUT]],
  AddSessionConfigEntry: [130, [POINTER, "str", "str"]],
  CreateAndRegisterAllocator: [144, [POINTER, POINTER, POINTER]],
} as const;

/** Functions that can't fail: [index, result, arguments]. */
const PLAIN = {
  GetErrorCode: [1, "int", [POINTER]],
  GetErrorMessage: [2, "str", [POINTER]],
  ReleaseStatus: [93, "void", [POINTER]],
  ReleaseSession: [95, "void", [POINTER]],
  ReleaseValue: [96, "void", [POINTER]],
  ReleaseRunOptions: [97, "void", [POINTER]],
  ReleaseSessionOptions: [100, "void", [POINTER]],
} as const;

type Functions = Record<keyof typeof CALLS, Call> & Record<keyof typeof PLAIN, (...args: unknown[]) => unknown>;

export interface OrtApi extends Functions {
  /** Of ONNX Runtime. */
  readonly version: string;
  /** OrtEnv*, one for the process. */
  readonly env: Pointer;
  /** OrtMemoryInfo* of this process' own arrays. */
  readonly hostMemory: Pointer;
  /** A function's result through its last argument. */
  get(call: Call, ...args: unknown[]): Pointer;
  getLater(call: Call, ...args: unknown[]): Promise<Pointer>;
  /** The address of an array's bytes, valid as long as it lives. */
  address(array: ArrayBufferView): Pointer;
}

let loaded: OrtApi | undefined;
let library: LibraryHandle; // kept forever: koffi unloads a library whose object is collected, even if its functions are in use

/**
 * The API; the library is loaded at the first call.
 * @throws UserError if this system has none, or another version
 */
export function ort(): OrtApi {
  loaded ??= load();
  return loaded;
}

function load(): OrtApi {
  // ONNX Runtime 1.30 sends telemetry: it contacts a host of its vendor, and keeps a device id and a queue in the user's cache. It
  // reads this variable when it is loaded.
  process.env.ORT_DISABLE_TELEMETRY = "1";
  const require = createRequire(import.meta.url);
  const koffi = loadKoffi();
  library = koffi.load(libraryPath(require));

  const places = (struct: unknown, place: number): Pointer => koffi.decode(struct, place * 8, POINTER);
  const base = library.func("OrtGetApiBase", POINTER, [])();
  const version: string = koffi.decode(places(base, 1), koffi.proto("str", []))();
  const api: Pointer = koffi.decode(places(base, 0), koffi.proto(POINTER, ["uint32_t"]))(API_VERSION);
  if (!api || !VERSION.test(version)) {
    throw new UserError(`ONNX Runtime ${version} isn't the version that these scripts need; run: npm ci`);
  }

  const plain = {} as Record<keyof typeof PLAIN, (...args: unknown[]) => unknown>;
  for (const [name, [place, result, args]] of Object.entries(PLAIN)) {
    plain[name as keyof typeof PLAIN] = koffi.decode(places(api, place), koffi.proto(result, [...args]));
  }
  const check = (status: Pointer | null) => {
    if (!status) return;
    const error = new OrtError(plain.GetErrorCode(status) as number, plain.GetErrorMessage(status) as string);
    plain.ReleaseStatus(status);
    throw error;
  };
  const calls = {} as Record<keyof typeof CALLS, Call>;
  for (const [name, [place, args]] of Object.entries(CALLS)) {
    const call = koffi.decode(places(api, place), koffi.proto(POINTER, [...args]));
    const later = (...given: unknown[]) =>
      new Promise<void>((resolve, reject) => {
        call.async(...given, (error: unknown, status: Pointer | null) => {
          try {
            if (error) throw error;
            check(status);
            resolve();
          } catch (reason) {
            reject(reason);
          }
        });
      });
    calls[name as keyof typeof CALLS] = Object.assign((...given: unknown[]) => check(call(...given)), { later });
  }

  const get = (call: Call, ...args: unknown[]) => {
    const out: [Pointer | null] = [null];
    call(...args, out);
    return out[0]!;
  };
  const getLater = async (call: Call, ...args: unknown[]) => {
    const out: [Pointer | null] = [null];
    await call.later(...args, out);
    return out[0]!;
  };
  const env = get(calls.CreateEnv, LOG_ERRORS, "nanogpt");
  const hostMemory = get(calls.CreateCpuMemoryInfo, ARENA, DEFAULT_MEMORY);
  calls.CreateAndRegisterAllocator(env, hostMemory, null); // an arena that all sessions share
  return {
    ...plain,
    ...calls,
    version,
    env,
    hostMemory,
    get,
    getLater,
    address(array) {
      void array.buffer; // V8 keeps small arrays in its heap, where they move, until `buffer` is read
      return koffi.address(array);
    },
  };
}

const LOG_ERRORS = 3; // OrtLoggingLevel; warnings are about skipped optimizations
const ARENA = 1; // OrtAllocatorType
const DEFAULT_MEMORY = 0; // OrtMemType

/** koffi's addon is a package per system, which npm skips with --omit=optional. */
function loadKoffi(): typeof import("koffi") {
  try {
    return nativeCalls();
  } catch (cause) {
    throw new UserError(
      `koffi, which calls ONNX Runtime, does not load on ${process.platform} ${process.arch}; run npm ci without ` +
        "--omit=optional, or run the model uncompiled: --compile=false",
      { cause },
    );
  }
}

function libraryPath(require: NodeJS.Require): string {
  const { platform, arch } = process;
  const names: Partial<Record<NodeJS.Platform, string>> = {
    linux: "libonnxruntime.so.1",
    darwin: "libonnxruntime.1.dylib",
    win32: "onnxruntime.dll", // by its full path, as Windows has another one
  };
  const root = dirname(require.resolve("onnxruntime-node/package.json"));
  const path = join(root, "bin", "napi-v6", platform, arch, names[platform] ?? "libonnxruntime.so");
  if (existsSync(path)) return path;
  throw new UserError(
    `ONNX Runtime is not made for ${platform} ${arch}; run the model uncompiled: --compile=false (slow)`,
  );
}

/** A C array of addresses; keeps alive what it points to. */
export interface Pointers {
  array: BigUint64Array;
  kept: unknown;
}

/** A C array of zero-terminated strings. */
export function cStrings(texts: readonly string[]): Pointers {
  const kept = texts.map((text) => Buffer.from(`${text}\0`));
  const { address } = ort();
  return { array: pointers(kept.map(address)), kept };
}

/** Addresses as a C array. */
export function pointers(addresses: readonly Pointer[]): BigUint64Array {
  const array = new BigUint64Array(new ArrayBuffer(8 * Math.max(1, addresses.length)));
  array.set(addresses);
  return array;
}
