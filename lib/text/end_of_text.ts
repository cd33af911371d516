/** GPT-2's token between documents, and how it is written as text. */
export const END_OF_TEXT = "<|endoftext|>";
export const END_OF_TEXT_TOKEN = 50_256;
