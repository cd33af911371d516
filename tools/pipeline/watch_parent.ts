// Loaded before a stage's script: where the pipeline that started it is gone, even by kill -9, the script is stopped as by
// SIGTERM. It saves what it has, instead of going on writing into a folder that the next pipeline may be working in.

process.on("disconnect", () => {
  for (const stream of [process.stdout, process.stderr]) stream.on("error", () => {}); // their reader is gone
  process.kill(process.pid, "SIGTERM");
});
process.channel?.unref(); // a finished script isn't kept from ending
