// Loaded before a stage's script: when the pipeline that started it is gone, even by kill -9, the script is stopped as by SIGTERM. It saves its
// state instead of continuing to write into a folder that the next pipeline may be using.

process.on("disconnect", () => {
  for (const stream of [process.stdout, process.stderr]) stream.on("error", () => {}); // the reader is gone
  process.kill(process.pid, "SIGTERM");
});
process.channel?.unref(); // don't keep a finished script alive
