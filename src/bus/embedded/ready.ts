import type { Worker } from 'node:worker_threads';
import { SdxiError } from '../../errors.js';
import type { EngineReady } from './engine.js';

/** The first message of an engine. @throws SdxiError ERR_SDXI_SYSTEM when there is none, in time or at all */
export function ready(worker: Worker, timeoutMs: number): Promise<EngineReady> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => fail(new Error(`not ready within ${timeoutMs} ms`)), timeoutMs);
    const settle = () => {
      clearTimeout(timer);
      worker.off('message', succeed).off('error', fail).off('exit', exit);
    };
    const succeed = (message: EngineReady) => {
      settle();
      resolve(message);
    };
    const fail = (cause: unknown) => {
      settle();
      // A late error of a thread that is given up must not end the process.
      worker.on('error', () => {});
      void worker.terminate();
      const message = cause instanceof Error ? cause.message : String(cause);
      reject(
        new SdxiError('ERR_SDXI_SYSTEM', `the engine thread did not start: ${message}`, {
          cause,
          hint: 'build the package first (npm run build)',
        }),
      );
    };
    const exit = (code: number) => fail(new Error(`it ended with code ${code}`));
    worker.on('message', succeed).on('error', fail).on('exit', exit);
  });
}
