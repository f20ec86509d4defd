/** An exporter whose counters grow at a known rate of real time, whatever any wall clock says. */
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { onTestFinished } from 'vitest';

/** @param packetsPerSecond each of `bytes` bytes. Ends with the test. */
export async function startSteadyExporter(packetsPerSecond: number, bytes: number): Promise<string> {
  const server = createServer((_request, response) => {
    const packets = Math.floor((performance.now() / 1000) * packetsPerSecond);
    response.setHeader('content-type', 'text/plain; version=0.0.4');
    response.end(
      [
        '# TYPE node_network_receive_bytes_total counter',
        `node_network_receive_bytes_total{device="eth0"} ${packets * bytes}`,
        '# TYPE node_network_receive_packets_total counter',
        `node_network_receive_packets_total{device="eth0"} ${packets}`,
        '',
      ].join('\n'),
    );
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/metrics`;
}
