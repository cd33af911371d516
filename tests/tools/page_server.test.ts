// tools/page_server.ts: why a port can't be had, in one line.

import assert from "node:assert/strict";
import { createServer, Server } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";

import { listen } from "../../tools/page_server.ts";
import { userError } from "../lib/text/support.ts";

/** A server that the system refuses a port. */
class Refused extends Server {
  override listen(): this {
    const error = Object.assign(new Error("listen EACCES: permission denied 127.0.0.1:80"), {
      code: "EACCES",
      syscall: "listen",
    });
    process.nextTick(() => this.emit("error", error));
    return this;
  }
}

test("a port that is the system's", async () => {
  await assert.rejects(listen(new Refused(), 80), userError(/^no permission for port 80: .*--port=8080$/));
});

test("a port that another program has", async () => {
  const other = createServer();
  const url = await listen(other, 0);
  const { port } = other.address() as AddressInfo;
  assert.equal(url, `http://127.0.0.1:${port}/`);
  await assert.rejects(listen(createServer(), port), userError(new RegExp(`^port ${port} is taken; leave --port out`)));
  other.close();
});
