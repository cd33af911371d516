// Loaded before a stage's script: the script ends when the pipeline that started it is gone, even by kill -9, instead of
// going on writing into a folder that the next pipeline may be working in.

process.on("disconnect", () => process.exit(1));
process.channel?.unref(); // a finished script isn't kept from ending
