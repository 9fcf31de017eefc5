// grpc.health.v1 by grpc-health-check, which is loaded when the first probe comes: with protobufjs it costs 60 ms that the
// start of the agent does not have to pay. Until then this file only remembers the states.

import type { Server, ServerUnaryCall, ServerWritableStream, sendUnaryData } from '@grpc/grpc-js';
import type { HealthImplementation } from 'grpc-health-check';
import { TaplaneError } from '../errors.ts';
import { malformed, rawMethod } from './handlers.ts';
import type { ErrorExit } from './status.ts';

export interface Health {
  /** `service` is a full name, or empty for the whole server. */
  setServing(service: string, serving: boolean): void;
}

interface LoadedMethod {
  requestDeserialize(bytes: Buffer): unknown;
  responseSerialize(message: unknown): Buffer;
}

interface Loaded {
  implementation: HealthImplementation;
  definition: Record<string, LoadedMethod>;
  handlers: Record<string, (call: unknown, callback?: (error: unknown, value?: unknown) => void) => void>;
}

const PATH = '/grpc.health.v1.Health/';

export function addHealth(server: Server, exit: ErrorExit): Health {
  const states = new Map<string, boolean>();
  let loading: Promise<Loaded> | undefined;
  let loaded: Loaded | undefined;
  const load = async () => {
    const { HealthImplementation } = await import('grpc-health-check');
    const implementation = new HealthImplementation();
    for (const [service, serving] of states) implementation.setStatus(service, serving ? 'SERVING' : 'NOT_SERVING');
    const captured = { implementation } as Loaded;
    const addService = (definition: unknown, handlers: unknown) => Object.assign(captured, { definition, handlers });
    implementation.addToServer({ addService } as unknown as Parameters<HealthImplementation['addToServer']>[0]);
    loaded = captured;
    return captured;
  };
  const ready = () => (loading ??= load());

  const unary = (name: string) => (call: ServerUnaryCall<Buffer, Buffer>, callback: sendUnaryData<Buffer>) => {
    ready()
      .then(({ definition, handlers }) => {
        const method = definition[name];
        handlers[name.toLowerCase()]?.({ request: read(method, call.request, name) }, (error, value) => {
          callback(error ? exit(notFound(error), PATH + name) : null, error ? null : method?.responseSerialize(value));
        });
      })
      .catch((error: unknown) => callback(exit(error, PATH + name)));
  };
  const watch = (call: ServerWritableStream<Buffer, Buffer>) => {
    ready()
      .then(({ definition, handlers }) => {
        if (call.cancelled) return;
        const method = definition['Watch'];
        const write = (message: unknown) => method && call.write(method.responseSerialize(message));
        const request = read(method, call.request, 'Watch') as { service: string };
        // The library keeps every name that was ever asked for. What is not known now never will be: all services are there from the start.
        if (!states.has(request.service)) return write({ status: 'SERVICE_UNKNOWN' });
        handlers['watch']?.({ request, write, on: call.on.bind(call) });
      })
      .catch((error: unknown) => call.emit('error', exit(error, `${PATH}Watch`)));
  };
  server.addService(
    {
      check: rawMethod({ path: `${PATH}Check`, requestStream: false, responseStream: false }),
      list: rawMethod({ path: `${PATH}List`, requestStream: false, responseStream: false }),
      watch: rawMethod({ path: `${PATH}Watch`, requestStream: false, responseStream: true }),
    },
    { check: unary('Check'), list: unary('List'), watch },
  );
  return {
    setServing(service, serving) {
      states.set(service, serving);
      loaded?.implementation.setStatus(service, serving ? 'SERVING' : 'NOT_SERVING');
    },
  };
}

function read(method: LoadedMethod | undefined, bytes: Buffer, name: string): unknown {
  try {
    return method?.requestDeserialize(bytes);
  } catch (cause) {
    throw malformed(PATH + name, cause);
  }
}

/** The library answers with an error in one case only: a service that nobody set. */
function notFound(error: unknown): TaplaneError {
  return new TaplaneError('NOT_FOUND', 'SERVICE_UNKNOWN', (error as { details?: string }).details ?? 'health status unknown');
}
