/**
 * The bytes that dmatest (Linux, drivers/dma/dmatest.c) writes before a transfer and expects after it. Every byte tells where it
 * belongs: bit 7 is set in the source and clear in the destination, bit 6 marks source bytes that are to be copied, bit 5
 * destination bytes that are to be overwritten, and the low five bits count down with the address.
 */
export const Pattern = { SRC: 0x80, DST: 0x00, COPY: 0x40, OVERWRITE: 0x20, COUNT_MASK: 0x1f } as const;

/** After so many bytes the count starts again. */
const PERIOD = Pattern.COUNT_MASK + 1;
/** A transfer that went wrong altogether is described by its first bytes. */
const MISMATCHES_MAX = 32;

/** One byte that is not what it should be. */
export interface Mismatch {
  buffer: 'src' | 'dst';
  /** Byte offset in the test buffer; negative in the guard before it, from its size up in the guard behind. */
  offset: number;
  expected: number;
  actual: number;
}

/** Which bytes of the test buffers a transfer touches. */
export interface Transfer {
  sourceOffset: number;
  destinationOffset: number;
  length: number;
}

function template(length: number, bits: number): Buffer {
  const bytes = Buffer.allocUnsafeSlow(length);
  for (let i = 0; i < length; i++) bytes[i] = bits | (~i & Pattern.COUNT_MASK);
  return bytes;
}

/**
 * Fills and checks buffers of one size. Whole runs are copied from and compared with ready-made templates: a test of 16 KiB costs
 * a few microseconds, not the hundred that a loop over its bytes would.
 */
export class PatternChecker {
  private readonly bufferBytes: number;
  private readonly guardBytes: number;
  private readonly source: Buffer;
  private readonly copied: Buffer;
  private readonly destination: Buffer;
  private readonly overwritten: Buffer;

  /** @param guardBytes a multiple of 32, before and after the test buffer; patterned and checked like the rest, but never part of a transfer */
  constructor(bufferBytes: number, guardBytes: number) {
    const length = bufferBytes + 2 * guardBytes + PERIOD;
    this.bufferBytes = bufferBytes;
    this.guardBytes = guardBytes;
    this.source = template(length, Pattern.SRC);
    this.copied = template(length, Pattern.SRC | Pattern.COPY);
    this.destination = template(length, Pattern.DST);
    this.overwritten = template(length, Pattern.DST | Pattern.OVERWRITE);
  }

  /** Both buffers as they are before a transfer. They hold guard, test buffer and guard. */
  prepare(source: Uint8Array, destination: Uint8Array, { sourceOffset, destinationOffset, length }: Transfer): void {
    const from = this.guardBytes + sourceOffset;
    const to = this.guardBytes + destinationOffset;
    source.set(this.source.subarray(0, from), 0);
    source.set(this.copied.subarray(from, from + length), from);
    source.set(this.source.subarray(from + length, source.length), from + length);
    destination.set(this.destination.subarray(0, to), 0);
    destination.set(this.overwritten.subarray(to, to + length), to);
    destination.set(this.destination.subarray(to + length, destination.length), to + length);
  }

  /** Bytes that are wrong after a transfer: their number, and the first of them. */
  check(source: Buffer, destination: Buffer, { sourceOffset, destinationOffset, length }: Transfer): { errors: number; first: Mismatch[] } {
    const from = this.guardBytes + sourceOffset;
    const to = this.guardBytes + destinationOffset;
    const found = { errors: 0, first: [] as Mismatch[] };
    // The count of a copied byte is that of its place in the source.
    const phase = (from - to) & Pattern.COUNT_MASK;
    this.compare('src', source, 0, from, this.source, 0, found);
    this.compare('src', source, from, from + length, this.copied, 0, found);
    this.compare('src', source, from + length, source.length, this.source, 0, found);
    this.compare('dst', destination, 0, to, this.destination, 0, found);
    this.compare('dst', destination, to, to + length, this.copied, phase, found);
    this.compare('dst', destination, to + length, destination.length, this.destination, 0, found);
    return found;
  }

  /** Compares bytes [start, end) with the template `shift` bytes further on; native unless something is wrong. */
  private compare(
    buffer: 'src' | 'dst',
    bytes: Buffer,
    start: number,
    end: number,
    expected: Buffer,
    shift: number,
    found: { errors: number; first: Mismatch[] },
  ): void {
    if (end <= start || bytes.compare(expected, start + shift, end + shift, start, end) === 0) return;
    for (let i = start; i < end; i++) {
      if (bytes[i] === expected[i + shift]) continue;
      found.errors++;
      if (found.first.length < MISMATCHES_MAX) {
        found.first.push({ buffer, offset: i - this.guardBytes, expected: expected[i + shift], actual: bytes[i] });
      }
    }
  }

  /** What a wrong byte looks like from its bits, in dmatest's words. */
  static explain({ buffer, offset, expected, actual }: Mismatch): string {
    const hex = (value: number) => value.toString(16).padStart(2, '0');
    const where = `${buffer}buf[${offset < 0 ? '-' : ''}0x${Math.abs(offset).toString(16)}]`;
    const tail = `Expected ${hex(expected)}, got ${hex(actual)}`;
    const different = expected ^ actual;
    if (buffer === 'src') return `${where} overwritten! ${tail}`;
    if (expected & Pattern.COPY && different & (Pattern.COPY | Pattern.OVERWRITE)) return `${where} not copied! ${tail}`;
    if (different & Pattern.SRC) return `${where} was copied! ${tail}`;
    return `${where} mismatch! ${tail}`;
  }

  /** The bytes of guard, test buffer and guard together. */
  get totalBytes(): number {
    return this.bufferBytes + 2 * this.guardBytes;
  }
}
