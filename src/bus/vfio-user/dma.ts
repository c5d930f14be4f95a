import { Errno } from '../../native/socket.js';
import type { Connection } from '../../vfio-user/connection.js';
import { Command, commandName, DMA_ACCESS_BYTES, field64, MAX_DATA_XFER, MapFlag } from '../../vfio-user/messages.js';
import type { SharedLink } from './shared.js';

/**
 * Serves a command of the server's, which is at hand in `connection`: DMA_READ or DMA_WRITE of memory that was granted without a file. A range
 * may reach over several grants; a byte that none of them covers with that right refuses all of it, before anything is written.
 * @returns 0, or -errno when the connection is of no use any more
 * @throws Error for a command that no server sends
 */
export function serveDma(connection: Connection, shared: SharedLink): number {
  const { command, view, body } = connection;
  if (command !== Command.DMA_READ && command !== Command.DMA_WRITE) {
    throw new Error(`the server sent ${commandName(command)}, which is nothing that a server asks for`);
  }
  if (body.length < DMA_ACCESS_BYTES) return connection.fail(Errno.EINVAL);
  const address = field64(view, 0);
  const count = field64(view, 8);
  const writes = command === Command.DMA_WRITE;
  if (address < 0 || count < 1 || count > MAX_DATA_XFER || body.length !== DMA_ACCESS_BYTES + (writes ? count : 0)) {
    return connection.fail(Errno.EINVAL);
  }
  const pieces: Uint8Array[] = [];
  for (let done = 0; done < count; ) {
    const piece = shared.find(address + done, count - done, writes ? MapFlag.WRITE : MapFlag.READ);
    if (piece === undefined) return connection.fail(Errno.EFAULT);
    pieces.push(piece);
    done += piece.length;
  }
  let done = DMA_ACCESS_BYTES;
  for (const piece of pieces) {
    if (writes) store(piece, body.subarray(done, done + piece.length), address + done - DMA_ACCESS_BYTES);
    else connection.out.bytes(done, piece);
    done += piece.length;
  }
  connection.out.u64(0, address);
  connection.out.u64(8, count);
  return connection.reply(writes ? DMA_ACCESS_BYTES : done);
}

/** Aligned words arrive whole: indexes and signals are looked at while they are written. An address and its memory agree modulo 4096. */
function store(target: Uint8Array, bytes: Uint8Array, address: number): void {
  const { length, buffer } = target;
  const view = new DataView(bytes.buffer, bytes.byteOffset, length);
  if (length === 8 && address % 8 === 0) Atomics.store(new BigInt64Array(buffer, 0, 1), 0, view.getBigInt64(0, true));
  else if (length === 4 && address % 4 === 0) Atomics.store(new Int32Array(buffer, 0, 1), 0, view.getInt32(0, true));
  else target.set(bytes);
}
