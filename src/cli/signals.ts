import { setMaxListeners } from 'node:events';
import { SdxiError } from '../errors.js';
import { ExitCode } from './terminal.js';

/** Thrown out of a command that a signal ended; carries the exit status that shells expect. */
export class InterruptedError extends SdxiError {
  readonly exitCode: ExitCode;

  /** @param cause what went wrong besides */
  constructor(signal: NodeJS.Signals, cause?: unknown) {
    super('ERR_SDXI_ABORTED', `interrupted by ${signal}`, { hint: 'everything that was in flight has been stopped', cause });
    this.exitCode = signal === 'SIGTERM' ? ExitCode.TERMINATED : ExitCode.INTERRUPTED;
  }
}

const isAbort = (error: unknown): boolean => error instanceof SdxiError && error.code === 'ERR_SDXI_ABORTED';

/**
 * Runs `work` with an AbortSignal that SIGINT and SIGTERM abort, so that a function is stopped and files are put away before
 * the process ends. A second signal ends it at once.
 * @throws InterruptedError after a signal, whatever `work` made of it
 */
export async function interruptible<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController();
  // Everything in flight listens to this one signal; hundreds of listeners are no leak.
  setMaxListeners(0, controller.signal);
  let received: NodeJS.Signals | undefined;
  const onSignal = (name: NodeJS.Signals) => {
    if (received) process.exit(name === 'SIGTERM' ? ExitCode.TERMINATED : ExitCode.INTERRUPTED);
    received = name;
    controller.abort();
  };
  process.on('SIGINT', onSignal);
  process.on('SIGTERM', onSignal);
  try {
    const result = await work(controller.signal);
    if (received) throw new InterruptedError(received);
    return result;
  } catch (error) {
    if (received && !(error instanceof InterruptedError)) throw new InterruptedError(received, isAbort(error) ? undefined : error);
    throw error;
  } finally {
    process.off('SIGINT', onSignal);
    process.off('SIGTERM', onSignal);
  }
}
