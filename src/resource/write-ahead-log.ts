// SQLite's write-ahead log, walked to see whether it is whole (sqlite.org/fileformat2.html, section 4). SQLite itself ends at the
// first frame that does not check, which is right after a crash in the middle of a write, and silent when a frame in the middle
// went bad. Pure.
//
//   header 32: magic, version, page size, checkpoint, salt 1, salt 2, checksum 1, 2
//   frame  24: page, size of the database after a commit (else 0), salt 1, salt 2, checksum 1, 2; then the page

const HEADER = 32;
const FRAME = 24;
const MAGIC = 0x377f0682;

/**
 * True when something that was on disk is lost: a later commit follows the one to which a frame that does not check belongs. The last
 * commit may as well have been cut off by a loss of power.
 */
export function isLogDamaged(log: Uint8Array): boolean {
  const bytes = Buffer.from(log.buffer, log.byteOffset, log.byteLength);
  if (bytes.length < HEADER + FRAME) return false;
  const magic = bytes.readUInt32BE(0);
  const pageBytes = bytes.readUInt32BE(8) === 1 ? 65_536 : bytes.readUInt32BE(8);
  const plausible = (magic & ~1) >>> 0 === MAGIC && pageBytes >= 512 && pageBytes <= 65_536 && (pageBytes & (pageBytes - 1)) === 0;
  // A header of zeros was never written out.
  if (!plausible) return bytes.subarray(0, HEADER).some((byte) => byte !== 0);
  const bigEndian = (magic & 1) === 1;
  let sum = checksum(bytes, 0, 24, [0, 0], bigEndian);
  if (sum[0] !== bytes.readUInt32BE(24) || sum[1] !== bytes.readUInt32BE(28)) return true;
  const salts = bytes.subarray(16, 24);
  let broken = false;
  let commitsToCome = 0;
  for (let at = HEADER; at + FRAME + pageBytes <= bytes.length; at += FRAME + pageBytes) {
    // Frames of an earlier round of the log have other salts: they are leftovers.
    const current = bytes.subarray(at + 8, at + 16).equals(salts);
    const commits = bytes.readUInt32BE(at + 4) !== 0;
    if (!current && !broken) {
      broken = true;
      commitsToCome = 2;
      continue;
    }
    if (broken) {
      if (current && commits && --commitsToCome === 0) return true;
      continue;
    }
    sum = checksum(bytes, at, 8, sum, bigEndian);
    sum = checksum(bytes, at + FRAME, pageBytes, sum, bigEndian);
    broken = sum[0] !== bytes.readUInt32BE(at + 16) || sum[1] !== bytes.readUInt32BE(at + 20);
    // The commit of this frame's own, unless it is the commit itself, and one more.
    if (broken) commitsToCome = commits ? 1 : 2;
  }
  return false;
}

function checksum(bytes: Buffer, start: number, length: number, before: [number, number], bigEndian: boolean): [number, number] {
  let [a, b] = before;
  for (let at = start; at < start + length; at += 8) {
    a = (a + (bigEndian ? bytes.readUInt32BE(at) : bytes.readUInt32LE(at)) + b) >>> 0;
    b = (b + (bigEndian ? bytes.readUInt32BE(at + 4) : bytes.readUInt32LE(at + 4)) + a) >>> 0;
  }
  return [a, b];
}
