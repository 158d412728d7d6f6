// The peer of bench/rpc_echo: gRPC C++ callback unary over mTLS, P-256 certificates.
//
//     grpc_echo server DIR            prints the port; DIR is that of rpc_echo server: ca.pem, {server,client}.{pem,key}
//     grpc_echo client DIR PORT CALLS OUTSTANDING BYTES
//
// The client prints {"p50_us":..,"p99_us":..,"calls_per_s":..}.
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <memory>
#include <mutex>
#include <sstream>
#include <string>
#include <vector>

#include "echo.grpc.pb.h"

using Clock = std::chrono::steady_clock;

static std::string slurp(const std::string &path)
{
        std::ifstream     f(path);
        std::stringstream s;

        s << f.rdbuf();
        if (!f) {
                std::cerr << "grpc_echo: cannot read " << path << "\n";
                exit(1);
        }
        return s.str();
}

class EchoService final : public bench::Echo::CallbackService {
        grpc::ServerUnaryReactor *Unary(grpc::CallbackServerContext *ctx, const bench::Blob *in, bench::Blob *out) override
        {
                out->set_data(in->data());
                auto *r = ctx->DefaultReactor();
                r->Finish(grpc::Status::OK);
                return r;
        }
};

static int serve(const std::string &dir)
{
        grpc::SslServerCredentialsOptions o(GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
        grpc::ServerBuilder               b;
        EchoService                       service;
        int                               port = 0;

        o.pem_root_certs = slurp(dir + "/ca.pem");
        o.pem_key_cert_pairs.push_back({slurp(dir + "/server.key"), slurp(dir + "/server.pem")});
        b.AddListeningPort("127.0.0.1:0", grpc::SslServerCredentials(o), &port);
        b.RegisterService(&service);
        auto server = b.BuildAndStart();
        if (!server)
                return 1;
        std::cout << port << std::endl;
        server->Wait();
        return 0;
}

struct Call {
        grpc::ClientContext ctx;
        bench::Blob         in, out;
        Clock::time_point   start;
};

struct Load {
        std::unique_ptr<bench::Echo::Stub> stub;
        std::string                        data;
        long                               total, started = 0, done = 0;
        bool                               failed = false;
        std::vector<double>                us;
        std::mutex                         lock;
        std::condition_variable            over;

        // Called with the lock held.
        void issue()
        {
                auto *c = new Call;

                started++;
                c->in.set_data(data);
                c->start = Clock::now();
                stub->async()->Unary(&c->ctx, &c->in, &c->out, [this, c](grpc::Status st) {
                        double t = std::chrono::duration<double, std::micro>(Clock::now() - c->start).count();

                        std::unique_lock<std::mutex> hold(lock);
                        us.push_back(t);
                        done++;
                        failed |= !st.ok() || c->out.data().size() != data.size();
                        if (!st.ok())
                                std::cerr << "grpc_echo: " << st.error_message() << "\n";
                        delete c;
                        if (started < total && !failed)
                                issue();
                        if (done == total || failed)
                                over.notify_all();
                });
        }
};

static int load(const std::string &dir, const std::string &port, long calls, long outstanding, long bytes)
{
        grpc::SslCredentialsOptions o{slurp(dir + "/ca.pem"), slurp(dir + "/client.key"), slurp(dir + "/client.pem")};
        grpc::ChannelArguments      args;
        Load                        l;

        args.SetSslTargetNameOverride("localhost");
        l.stub = bench::Echo::NewStub(grpc::CreateCustomChannel("127.0.0.1:" + port, grpc::SslCredentials(o), args));
        l.data.assign(static_cast<size_t>(bytes), 'x');
        l.us.reserve(static_cast<size_t>(calls));
        for (long warm : {500L, calls}) {
                std::unique_lock<std::mutex> hold(l.lock);

                l.started = l.done = 0;
                l.total = warm;
                l.us.clear();
                auto t = Clock::now();
                for (long i = 0; i < outstanding && i < warm; i++)
                        l.issue();
                l.over.wait(hold, [&] { return l.done == l.total || l.failed; });
                if (l.failed)
                        return 1;
                if (warm == calls) {
                        double s = std::chrono::duration<double>(Clock::now() - t).count();

                        std::sort(l.us.begin(), l.us.end());
                        printf("{\"p50_us\":%.1f,\"p99_us\":%.1f,\"calls_per_s\":%.0f}\n", l.us[l.us.size() / 2],
                               l.us[l.us.size() * 99 / 100], static_cast<double>(calls) / s);
                }
        }
        return 0;
}

int main(int argc, char **argv)
{
        if (argc == 3 && std::string(argv[1]) == "server")
                return serve(argv[2]);
        if (argc == 7 && std::string(argv[1]) == "client")
                return load(argv[2], argv[3], atol(argv[4]), atol(argv[5]), atol(argv[6]));
        std::cerr << "usage: grpc_echo server DIR | client DIR PORT CALLS OUTSTANDING BYTES\n";
        return 64;
}
