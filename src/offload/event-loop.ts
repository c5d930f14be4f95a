import { SdxiError } from '../errors.js';
import type { Mover } from '../mover/index.js';
import { eventLoopDelay, type LoopDelay } from './latency.js';

/** The event loop's delay while the same bytes are moved in two ways. */
export interface LoopComparison {
  /** Bytes moved in each way, and by one call. */
  bytes: number;
  pieceBytes: number;
  /** By `mover.copy`. */
  offloaded: LoopDelay;
  /** By the thread of the event loop itself. */
  inline: LoopDelay;
}

/**
 * Moves `bytes` in pieces of `pieceBytes`, first by the mover and then on the event loop's own thread, and measures how late the
 * event loop is meanwhile.
 * @throws SdxiError ERR_SDXI_CONTEXT when a byte is wrong; errors of the mover
 */
export async function compareEventLoop(mover: Mover, bytes: number, pieceBytes: number, signal?: AbortSignal): Promise<LoopComparison> {
  const source = mover.alloc(pieceBytes, { alignment: 4096 });
  const destination = mover.alloc(pieceBytes, { alignment: 4096 });
  try {
    // Pages have to exist before a clock runs.
    source.fill(0xc3);
    destination.fill(0x3c);
    const repeat = async (move: () => unknown) => {
      for (let done = 0; done < bytes; done += pieceBytes) {
        await move();
        // Whoever copies on the event loop at least lets it turn between two pieces.
        await new Promise(setImmediate);
      }
    };
    const offloaded = await eventLoopDelay(() => repeat(() => mover.copy(source, destination, { signal })));
    if (!source.equals(destination)) {
      throw new SdxiError('ERR_SDXI_CONTEXT', `a copy of ${pieceBytes} bytes left wrong bytes`, {
        hint: 'run sdxi test: it finds out which',
      });
    }
    const inline = await eventLoopDelay(() => repeat(() => destination.set(source)));
    return { bytes, pieceBytes, offloaded: offloaded.delay, inline: inline.delay };
  } finally {
    mover.free(source);
    mover.free(destination);
  }
}
