// TFRecord framing: a record's length, the record, and a checksum of each. The checksum is CRC-32C, which Node lacks (zlib's CRC-32
// has another polynomial). Only writes.

const POLYNOMIAL = 0x82f63b78; // Castagnoli's, the lowest bit standing for the highest power
const HEADER = 12; // bytes: length, checksum
const FOOTER = 4; // checksum

const TABLE = Int32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ POLYNOMIAL : crc >>> 1;
  return crc;
});

/** CRC-32C, 0 to 2^32 - 1. */
export function crc32c(bytes: Uint8Array): number {
  let crc = -1;
  for (let i = 0; i < bytes.length; i++) crc = TABLE[(crc ^ bytes[i]!) & 255]! ^ (crc >>> 8);
  return ~crc >>> 0;
}

/** TFRecord's masked CRC: rotated, plus a constant, since a CRC of data that contains CRCs is weak. */
function masked(bytes: Uint8Array): number {
  const crc = crc32c(bytes);
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
}

/** A record as stored in a file. */
export function frame(record: Uint8Array): Buffer {
  const framed = Buffer.allocUnsafe(HEADER + record.length + FOOTER);
  framed.writeBigUInt64LE(BigInt(record.length), 0);
  framed.writeUInt32LE(masked(framed.subarray(0, 8)), 8);
  framed.set(record, HEADER);
  framed.writeUInt32LE(masked(record), HEADER + record.length);
  return framed;
}
