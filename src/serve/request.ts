import { closeFd } from '../native/libc.js';
import type { Connection } from '../vfio-user/connection.js';
import { Command, Flag } from '../vfio-user/messages.js';

/** A command of the client's, apart from the connection that it came over: it may have to wait. */
export interface Request {
  id: number;
  command: number;
  noReply: boolean;
  /** Length of the body. */
  bytes: number;
  /** The body as numbers; only its first {@link bytes} are the request's. */
  view: DataView;
  /** The body. */
  readonly body: Uint8Array<ArrayBuffer>;
  /** Descriptors that came with it and that nobody has taken; closed when it is done. */
  fds: readonly number[];
  /** There were more than could be taken. */
  fdsLost: boolean;
}

/** The message that a connection has at hand, without a copy of anything: as good as that lasts. One object serves all. */
export class CurrentRequest implements Request {
  id = 0;
  command = 0;
  noReply = false;
  bytes = 0;
  view: DataView;
  fds: readonly number[] = [];
  fdsLost = false;
  private readonly connection: Connection;

  constructor(connection: Connection) {
    this.connection = connection;
    this.view = connection.view;
  }

  get body(): Uint8Array<ArrayBuffer> {
    return this.connection.body;
  }

  take(): this {
    const { connection } = this;
    this.id = connection.id;
    this.command = connection.command;
    this.noReply = (connection.flags & Flag.NO_REPLY) !== 0;
    this.bytes = connection.bodyBytes;
    this.fds = connection.takeFds();
    this.fdsLost = connection.fdsLost;
    return this;
  }
}

/** The message that a connection has at hand, to be kept: the next one may come. */
export function keptRequest(connection: Connection): Request {
  const body = connection.body.slice();
  return {
    id: connection.id,
    command: connection.command,
    noReply: (connection.flags & Flag.NO_REPLY) !== 0,
    bytes: body.length,
    body,
    view: new DataView(body.buffer, body.byteOffset, body.length),
    // Descriptors that no command of this kind has stay with the connection, which closes them before the next message.
    fds: connection.command === Command.DMA_MAP || connection.command === Command.DEVICE_SET_IRQS ? connection.takeFds() : [],
    fdsLost: connection.fdsLost,
  };
}

export function closeFds(request: Request): void {
  if (request.fds.length === 0) return;
  for (const fd of request.fds) closeFd(fd);
  request.fds = [];
}
