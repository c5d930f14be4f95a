import { closeFd } from '../native/libc.js';
import type { Connection } from '../vfio-user/connection.js';
import { Command, Flag } from '../vfio-user/messages.js';

/** A command of the client's, apart from the connection that it came over: it may have to wait. */
export interface Request {
  readonly id: number;
  readonly command: number;
  readonly noReply: boolean;
  readonly body: Uint8Array<ArrayBuffer>;
  readonly view: DataView;
  /** Descriptors that came with it and that nobody has taken; closed when it is done. */
  fds: number[];
  /** There were more than could be taken. */
  readonly fdsLost: boolean;
}

/**
 * The message at hand.
 * @param keep the message has to outlive the next one: its body is copied
 */
export function requestOf(connection: Connection, { keep }: { keep: boolean }): Request {
  const body = keep ? connection.body.slice() : connection.body;
  return {
    id: connection.id,
    command: connection.command,
    noReply: (connection.flags & Flag.NO_REPLY) !== 0,
    body,
    view: new DataView(body.buffer, body.byteOffset, body.length),
    // Descriptors that no command of this kind has stay with the connection, which closes them before the next message.
    fds: connection.command === Command.DMA_MAP || connection.command === Command.DEVICE_SET_IRQS ? connection.takeFds() : [],
    fdsLost: connection.fdsLost,
  };
}

export function closeFds(request: Request): void {
  for (const fd of request.fds) closeFd(fd);
  request.fds = [];
}
