// SPDX-License-Identifier: MIT
// The end of a tile of BM rows by BN lines of weights (args.glsl), of which an invocation has made TM by TN sums, GY rows and GX
// lines apart, in TEAMS teams of PLACES invocations that have taken turns along k.
#ifndef FM_MATMUL_TEAMS_GLSL
#define FM_MATMUL_TEAMS_GLSL

const uint GX = BN / TN, GY = BM / TM;
const uint PLACES = GX * GY; // invocations of a team

shared float team_sums[TEAMS > 1u ? (TEAMS - 1u) * TN * PLACES : 1u]; // of one row of each invocation, but those of the first team

float acc[TM * TN];

// The first team gets the sums of all, in the teams' order, row by row.
void add_teams(uint team, uint place)
{
    [[unroll]] for (uint i = 0u; i < TM; i++) {
        if (team != 0u)
            [[unroll]] for (uint j = 0u; j < TN; j++)
                team_sums[((team - 1u) * TN + j) * PLACES + place] = acc[i * TN + j];
        barrier();
        if (team == 0u)
            for (uint other = 0u; other + 1u < TEAMS; other++)
                [[unroll]] for (uint j = 0u; j < TN; j++)
                    acc[i * TN + j] += team_sums[(other * TN + j) * PLACES + place];
        barrier();
    }
}

void store_tile(uint row0, uint rows, uint col0, uint tx, uint ty)
{
    [[unroll]] for (uint i = 0u; i < TM; i++)
        [[unroll]] for (uint j = 0u; j < TN / uint(FM_STREAMS); j++) {
            uint row = row0 + ty + GY * i, col = col0 + tx + GX * j;
            if (row < rows && col < pc.n)
#if FM_STREAMS == 2
                fm_store_y(row, col, acc[i * TN + j], acc[i * TN + TN / 2u + j]);
#else
                fm_store_y(row, col, acc[i * TN + j]);
#endif
        }
}

#endif
