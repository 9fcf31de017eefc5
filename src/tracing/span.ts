// Spans by the OpenTelemetry API, without an SDK of our own: whoever wants traces loads one before the agent (`node --import`). The API itself is
// loaded only when an SDK has registered with it, so that without one every function here is a comparison and a call.
//
//   call (server span, from W3C headers) --> reconcile --> netlink        in the context of the call
//                                      '--> event --(spool)--> NATS       by headers that the message carries

import type { Attributes, Context, Span, Tracer } from '@opentelemetry/api';

type Api = typeof import('@opentelemetry/api');

/** W3C headers of a span: `traceparent`, `tracestate`. */
export type TraceHeaders = Readonly<Record<string, string>>;

/** Where the API keeps what SDKs register, for all versions 1 of it; documented as the way in which copies of the package find each other. */
const REGISTERED = Symbol.for('opentelemetry.js.api.1');
const NAME = 'taplane';

// The API is global by design: one process, one SDK.
let api: Api | undefined;
let tracer: Tracer | undefined;

/** Makes spans from now on when an SDK has registered; answers whether. */
export async function startTracing(version = ''): Promise<boolean> {
  const registered = (globalThis as Record<symbol, { trace?: unknown } | undefined>)[REGISTERED];
  if (registered?.trace === undefined) return false;
  api = await import('@opentelemetry/api');
  tracer = api.trace.getTracer(NAME, version || undefined);
  return true;
}

/** No more spans. For tests. */
export function stopTracing(): void {
  api = undefined;
  tracer = undefined;
}

/** Runs a call of the API. `header` answers what stands in its metadata; `codeOf` the name of the gRPC code that an error stands for. */
export function serverSpan<T>(
  path: string,
  header: (key: string) => string | undefined,
  codeOf: (error: unknown) => string,
  run: () => Promise<T>,
): Promise<T> {
  if (api === undefined || tracer === undefined) return run();
  const { propagation, ROOT_CONTEXT, SpanKind } = api;
  const parent = propagation.extract(ROOT_CONTEXT, undefined, { get: (_, key) => header(key), keys: () => [] });
  const [service = '', method = ''] = path.slice(1).split('/');
  const attributes = { 'rpc.system': 'grpc', 'rpc.service': service, 'rpc.method': method };
  return tracer.startActiveSpan(path.slice(1), { kind: SpanKind.SERVER, attributes }, parent, async (span) => {
    try {
      const answer = await run();
      span.setAttribute('rpc.grpc.status_name', 'OK');
      return answer;
    } catch (error) {
      span.setAttribute('rpc.grpc.status_name', codeOf(error));
      fail(span, error);
      throw error;
    } finally {
      span.end();
    }
  });
}

/** Runs a piece of work at once, within the span that is active. `attributes` are asked for only when there is somebody to tell. */
export function inSpan<T>(name: string, attributes: () => Attributes, run: () => T): T {
  if (tracer === undefined) return run();
  return tracer.startActiveSpan(name, { attributes: attributes() }, (span) => {
    try {
      return run();
    } catch (error) {
      fail(span, error);
      throw error;
    } finally {
      span.end();
    }
  });
}

/** The span that is active now, for work that comes later; undefined when there is none. */
export function activeHeaders(): TraceHeaders | undefined {
  if (api === undefined || api.trace.getActiveSpan() === undefined) return undefined;
  return headersOf(api, api.context.active());
}

/** Sends a message on behalf of an earlier span: `send` gets the headers for it. Without such a span it gets none. */
export function producerSpan<T>(
  subject: string,
  of: TraceHeaders | undefined,
  send: (headers: TraceHeaders | undefined) => Promise<T>,
): Promise<T> {
  if (api === undefined || tracer === undefined || of === undefined) return send(undefined);
  const { propagation, ROOT_CONTEXT, SpanKind, trace, context } = api;
  const parent = propagation.extract(ROOT_CONTEXT, of);
  const attributes = { 'messaging.system': 'nats', 'messaging.destination.name': subject };
  const span = tracer.startSpan('nats publish', { kind: SpanKind.PRODUCER, attributes }, parent);
  const inside = trace.setSpan(parent, span);
  const headers = headersOf(api, inside);
  return context.with(inside, async () => {
    try {
      return await send(headers);
    } catch (error) {
      fail(span, error);
      throw error;
    } finally {
      span.end();
    }
  });
}

function headersOf({ propagation }: Api, context: Context): TraceHeaders | undefined {
  const headers: Record<string, string> = {};
  propagation.inject(context, headers);
  return Object.keys(headers).length === 0 ? undefined : headers;
}

/** The message may name things; it holds no secret, since those of our errors never do. */
function fail(span: Span, error: unknown): void {
  span.setStatus({ code: ERROR, message: error instanceof Error ? error.message : String(error) });
}

/** SpanStatusCode.ERROR */
const ERROR = 2;
