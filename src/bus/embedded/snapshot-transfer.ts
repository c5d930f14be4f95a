import type { FunctionSnapshot } from '../../spec/snapshot.js';
import { type Channel, Op, TEXT_BYTES } from './channel.js';

/**
 * A snapshot crosses to the other thread as JSON, in pieces that fit into the channel's text: one request each, with the slot held
 * from the first to the last. `numbers`: offset of the piece, bytes of the whole.
 */

const encode = (snapshot: FunctionSnapshot): Uint8Array => new TextEncoder().encode(JSON.stringify(snapshot) ?? 'null');
const decode = (bytes: Uint8Array): FunctionSnapshot => JSON.parse(new TextDecoder().decode(bytes));

/** The engine's end. A piece at offset 0 begins anew, so a caller that gave up half-way leaves nothing behind. */
export class SnapshotTransfer {
  private bytes: Uint8Array = new Uint8Array();

  /** Answers one {@link Op.SNAPSHOT}: the piece at the offset that was asked for. */
  send({ numbers, text }: Channel, take: () => FunctionSnapshot): void {
    const [offset] = numbers;
    if (offset === 0) this.bytes = encode(take());
    text.set(this.bytes.subarray(offset, offset + TEXT_BYTES));
    numbers[1] = this.bytes.length;
  }

  /** Answers one {@link Op.RESTORE}; the last piece restores. */
  receive({ numbers, text }: Channel, give: (snapshot: FunctionSnapshot) => void): void {
    const [offset, total] = numbers;
    if (offset === 0) this.bytes = new Uint8Array(total);
    const piece = Math.min(TEXT_BYTES, total - offset);
    this.bytes.set(text.subarray(0, piece), offset);
    if (offset + piece === total) give(decode(this.bytes));
  }
}

/** The user's end of {@link SnapshotTransfer.send}. @param request makes one request and throws its error */
export function receiveSnapshot({ numbers, text }: Channel, request: (op: Op) => void): FunctionSnapshot {
  let bytes = new Uint8Array();
  for (let offset = 0; offset === 0 || offset < bytes.length; offset += TEXT_BYTES) {
    numbers[0] = offset;
    request(Op.SNAPSHOT);
    if (offset === 0) bytes = new Uint8Array(numbers[1]);
    bytes.set(text.subarray(0, Math.min(TEXT_BYTES, bytes.length - offset)), offset);
  }
  return decode(bytes);
}

/** The user's end of {@link SnapshotTransfer.receive}. */
export function sendSnapshot({ numbers, text }: Channel, snapshot: FunctionSnapshot, request: (op: Op) => void): void {
  const bytes = encode(snapshot);
  for (let offset = 0; offset < bytes.length; offset += TEXT_BYTES) {
    text.set(bytes.subarray(offset, offset + TEXT_BYTES));
    numbers[0] = offset;
    numbers[1] = bytes.length;
    request(Op.RESTORE);
  }
}
